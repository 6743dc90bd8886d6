"""The version of the numerics: a number that changes only when the bits of a run change.

With the compiled engine and `--reproducible` the bits of a run follow from the data, the configuration, the seed and
this number.  A run keeps the number with which it was begun (see `distbp.training.basis`).

0   Versions that did not know this number.  NumPy's Generator made the order of the samples and the first parameters;
    cos and pow of the C library made learning rates and powers of β.
1   `distbp.mathematics.counter_numbers` and `distbp.mathematics.fixed_functions` make them.
"""

NUMERICS = 1
