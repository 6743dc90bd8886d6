"""HDF5 files written whole or not at all, and read without trust."""
