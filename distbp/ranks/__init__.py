"""The ranks of a job: how they talk, start, agree, stop, and what their machine has."""
