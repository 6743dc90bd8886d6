"""The configuration of a run: its options, what they may be, and the files in which they stand.  Needs no NumPy."""
