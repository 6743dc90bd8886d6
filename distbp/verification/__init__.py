"""Audits of runs: a run is repeated, as a whole or in parts, and compared with its audit.csv."""
