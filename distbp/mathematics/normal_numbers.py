"""Normally distributed numbers from uniform ones, with the same bits on every machine.

A number is the place below which the standard normal distribution has the share u: Φ^-1(u).  Wichura's approximation
(algorithm AS 241, PPND16, Applied Statistics 37, 1988) has a relative error of about 1e-16; rounding makes it 1e-15.
It is made of ratios of polynomials, and in the tails of √(-ln u), with the logarithm of
`distbp.mathematics.fixed_functions`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distbp.mathematics.fixed_functions import log

CENTRE = 0.425  # |u - ½| up to here
FAR = 5.0  # √(-ln u) up to here

# The coefficients of numerator and denominator, of the highest power first.
OF_CENTRE = (
    (
        2.5090809287301226727e3,
        3.3430575583588128105e4,
        6.7265770927008700853e4,
        4.5921953931549871457e4,
        1.3731693765509461125e4,
        1.9715909503065514427e3,
        1.3314166789178437745e2,
        3.3871328727963666080e0,
    ),
    (
        5.2264952788528545610e3,
        2.8729085735721942674e4,
        3.9307895800092710610e4,
        2.1213794301586595867e4,
        5.3941960214247511077e3,
        6.8718700749205790830e2,
        4.2313330701600911252e1,
        1.0,
    ),
)
OF_TAIL = (
    (
        7.74545014278341407640e-4,
        2.27238449892691845833e-2,
        2.41780725177450611770e-1,
        1.27045825245236838258e0,
        3.64784832476320460504e0,
        5.76949722146069140550e0,
        4.63033784615654529590e0,
        1.42343711074968357734e0,
    ),
    (
        1.05075007164441684324e-9,
        5.47593808499534494600e-4,
        1.51986665636164571966e-2,
        1.48103976427480074590e-1,
        6.89767334985100004550e-1,
        1.67638483018380384940e0,
        2.05319162663775882187e0,
        1.0,
    ),
)
OF_FAR_TAIL = (
    (
        2.01033439929228813265e-7,
        2.71155556874348757815e-5,
        1.24266094738807843860e-3,
        2.65321895265761230930e-2,
        2.96560571828504891230e-1,
        1.78482653991729133580e0,
        5.46378491116411436990e0,
        6.65790464350110377720e0,
    ),
    (
        2.04426310338993978564e-15,
        1.42151175831644588870e-7,
        1.84631831751005468180e-5,
        7.86869131145613259100e-4,
        1.48753612908506148525e-2,
        1.36929880922735805310e-1,
        5.99832206555887937690e-1,
        1.0,
    ),
)


def normal(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Φ^-1(u) of each u, 0 < u < 1."""
    q = u - 0.5
    numbers = q * _ratio(OF_CENTRE, 0.180625 - q * q)
    at = np.flatnonzero(np.abs(q) > CENTRE)
    if len(at):
        r = np.sqrt(-log(np.minimum(u[at], 1.0 - u[at])))
        tail = _ratio(OF_TAIL, r - 1.6)
        is_far = r > FAR
        tail[is_far] = _ratio(OF_FAR_TAIL, r[is_far] - FAR)
        numbers[at] = np.copysign(tail, q[at])
    return numbers


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: NDArray[np.float64]) -> NDArray[np.float64]:
    above, below = (_polynomial(some, r) for some in coefficients)
    above /= below
    return above


def _polynomial(coefficients: tuple[float, ...], r: NDArray[np.float64]) -> NDArray[np.float64]:
    """By Horner's rule."""
    value = np.full_like(r, coefficients[0])
    for coefficient in coefficients[1:]:
        value *= r
        value += coefficient
    return value
