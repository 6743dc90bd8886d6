"""A training run: its directory, checkpoints, memory, and the loop."""
