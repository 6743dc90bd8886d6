"""Training from Python: data as a caller has them, options by name, and what came out."""
