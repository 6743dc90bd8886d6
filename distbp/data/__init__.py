"""From HDF5 files to the samples of a step, and what is to be learnt from them."""
