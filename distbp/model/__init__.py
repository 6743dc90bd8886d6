"""A trained network in Python: read from a checkpoint, used on arrays and frames, without any MPI library."""
