"""The compiled step: C code, and what Python needs to call it."""
