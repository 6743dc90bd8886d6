"""`distbp inspect`: what is in a file."""
