"""The commands, one module each.  At their tops only what `--help` needs: MPI, NumPy and HDF5 start inside them."""
