"""`distbp import`: tables in other formats, written as HDF5 data sets."""
