/* exp, log and tanh for REAL numbers, of + - x ÷ and fused multiply-add alone.  Included once for each REAL.

   They have no branches, so that the compiler makes vector code of the loops that call them.  Each operation is written
   out, so that the bits are those of the formulas, whatever the vector width: no function of libm is called. */

#define FN(name) PASTE(name, PASTE(_, REAL))

#if REAL_IS_DOUBLE
#define BITS int64_t
#define UNSIGNED uint64_t
#define FRACTION_BITS 52
#define BIAS 1023
#define ROUNDER 0x1.8p52    /* adding and subtracting it rounds to a whole number */
#define LOG2E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42fefa0000p-1 /* ln 2, in a part with zeros behind it, and the rest */
#define LN2_LOW 0x1.cf79abc9e3b39p-40
#define EXP_LEAST -746.0
#define EXP_MOST 710.0
#define FMA1(a, b, c) __builtin_fma(a, b, c)
#else
#define BITS int32_t
#define UNSIGNED uint32_t
#define FRACTION_BITS 23
#define BIAS 127
#define ROUNDER 0x1.8p23f
#define LOG2E 0x1.715476p0f
#define LN2_HIGH 0x1.62e400p-1f
#define LN2_LOW 0x1.7f7d1cp-20f
#define EXP_LEAST -104.0f
#define EXP_MOST 89.0f
#define FMA1(a, b, c) __builtin_fmaf(a, b, c)
#endif
#if !HAS_FMA
#undef FMA1
#define FMA1(a, b, c) ((a) * (b) + (c))
#endif

union FN(bits) {
    REAL real;
    UNSIGNED bits;
};

/* 2^n for -BIAS < n <= BIAS */
INLINE REAL FN(power_of_2)(BITS n) {
    union FN(bits) u = {.bits = (UNSIGNED)(n + BIAS) << FRACTION_BITS};
    return u.real;
}

/* e^r - 1 for |r| <= ln 2 / 2: the series r + r²/2! + r³/3! + …, as far as its terms count */
INLINE REAL FN(small_expm1)(REAL r) {
#if REAL_IS_DOUBLE
    REAL q = 1.0 / 6227020800.0;
    q = FMA1(q, r, 1.0 / 479001600.0);
    q = FMA1(q, r, 1.0 / 39916800.0);
    q = FMA1(q, r, 1.0 / 3628800.0);
    q = FMA1(q, r, 1.0 / 362880.0);
    q = FMA1(q, r, 1.0 / 40320.0);
    q = FMA1(q, r, 1.0 / 5040.0);
#else
    REAL q = 1.0f / 5040.0f;
#endif
    q = FMA1(q, r, (REAL)(1.0 / 720.0));
    q = FMA1(q, r, (REAL)(1.0 / 120.0));
    q = FMA1(q, r, (REAL)(1.0 / 24.0));
    q = FMA1(q, r, (REAL)(1.0 / 6.0));
    q = FMA1(q, r, (REAL)0.5);
    return FMA1(q, r * r, r);
}

/* x = n ln 2 + r with a whole n, for x between EXP_LEAST and EXP_MOST */
INLINE REAL FN(reduce)(REAL x, BITS *n) {
    union FN(bits) shifted = {.real = FMA1(x, LOG2E, ROUNDER)}, zero = {.real = ROUNDER};
    const REAL whole = shifted.real - ROUNDER;
    *n = (BITS)(shifted.bits - zero.bits);
    return FMA1(whole, -LN2_LOW, FMA1(whole, -LN2_HIGH, x));
}

/* e^x = 2^n e^r; NaN stays NaN, and what is beyond the numbers becomes inf or 0 */
INLINE REAL FN(exp_)(REAL x) {
    BITS n;
    const REAL inside = x < EXP_LEAST ? EXP_LEAST : x > EXP_MOST ? EXP_MOST : x;
    const REAL e_r = FN(small_expm1)(FN(reduce)(inside, &n)) + 1;
    const BITS half = n >> 1; /* 2^n may be no normal number; its halves are */
    return e_r * FN(power_of_2)(half) * FN(power_of_2)(n - half);
}

/* 2 artanh(s) / s = 2 (1 + s²/3 + s⁴/5 + …), for s² <= 1/9 */
INLINE REAL FN(artanh_series)(REAL s2) {
#if REAL_IS_DOUBLE
    REAL q = 2.0 / 35.0;
    q = FMA1(q, s2, 2.0 / 33.0);
    q = FMA1(q, s2, 2.0 / 31.0);
    q = FMA1(q, s2, 2.0 / 29.0);
    q = FMA1(q, s2, 2.0 / 27.0);
    q = FMA1(q, s2, 2.0 / 25.0);
    q = FMA1(q, s2, 2.0 / 23.0);
    q = FMA1(q, s2, 2.0 / 21.0);
    q = FMA1(q, s2, 2.0 / 19.0);
    q = FMA1(q, s2, 2.0 / 17.0);
#else
    REAL q = 2.0f / 17.0f;
#endif
    q = FMA1(q, s2, (REAL)(2.0 / 15.0));
    q = FMA1(q, s2, (REAL)(2.0 / 13.0));
    q = FMA1(q, s2, (REAL)(2.0 / 11.0));
    q = FMA1(q, s2, (REAL)(2.0 / 9.0));
    q = FMA1(q, s2, (REAL)(2.0 / 7.0));
    q = FMA1(q, s2, (REAL)(2.0 / 5.0));
    return FMA1(q, s2, (REAL)(2.0 / 3.0));
}

/* ln x for normal x > 0: x = 2^n m with m around 1, and ln m = 2 artanh s, s = (m - 1) / (m + 1) */
INLINE REAL FN(log_)(REAL x) {
    union FN(bits) u = {.real = x}, root_half = {.real = (REAL)0.70710678118654752};
    const BITS n = (BITS)(u.bits - root_half.bits) >> FRACTION_BITS;
    u.bits -= (UNSIGNED)n << FRACTION_BITS;
    const REAL f = u.real - 1, s = f / (f + 2), s2 = s * s;
    const REAL rest = FN(artanh_series)(s2) * s2; /* 2 artanh s = 2 s + s rest, and 2 s = f - s f */
    return FMA1((REAL)n, LN2_HIGH, f - FMA1(s, f - rest, -((REAL)n * LN2_LOW)));
}

/* ln(1 + u) for 0 <= u <= 1 */
INLINE REAL FN(small_log1p)(REAL u) {
    const REAL s = u / (u + 2), s2 = s * s;
    return u - s * (u - FN(artanh_series)(s2) * s2);
}

/* 1 / (1 + e^-z), from e^-|z|, which does not overflow */
INLINE REAL FN(sigmoid_)(REAL z) {
    const REAL e = FN(exp_)(z > 0 ? -z : z);
    return (z > 0 ? (REAL)1 : e) / (1 + e);
}

/* tanh z = t / (t + 2) with t = e^{2z} - 1, for |z|: then t >= 0 */
INLINE REAL FN(tanh_)(REAL z) {
    BITS n;
    const REAL x = z < 0 ? -z : z, most = REAL_IS_DOUBLE ? 22 : 11; /* from there on it is 1 */
    const REAL q = FN(small_expm1)(FN(reduce)(x < most ? 2 * x : 2 * most, &n)), power = FN(power_of_2)(n);
    const REAL t = FMA1(power, q, power - 1), tanh_x = x == x ? t / (t + 2) : x;
    return z < 0 ? -tanh_x : tanh_x;
}

/* ln(1 + e^z) = max(z, 0) + ln(1 + e^-|z|) */
INLINE REAL FN(softplus_)(REAL z) {
    return (z > 0 ? z : z == z ? 0 : z) + FN(small_log1p)(FN(exp_)(z > 0 ? -z : z));
}

/* z/2 (1 + tanh u), u = √(2/π) (z + k z³) */
INLINE REAL FN(gelu_)(REAL z) {
    const REAL c = (REAL)0.79788456080286536, k = (REAL)(0.79788456080286536 * 0.044715);
    return (REAL)0.5 * z * (1 + FN(tanh_)(z * (z * z * k + c)));
}

/* Its derivative: (1 + t)/2 + z/2 (1 - t²) u' with t = tanh u */
INLINE REAL FN(gelu_prime_)(REAL z) {
    const REAL c = (REAL)0.79788456080286536, k = (REAL)(0.79788456080286536 * 0.044715);
    const REAL t = FN(tanh_)(z * (z * z * k + c));
    return (REAL)0.5 * (1 + t) + (REAL)0.5 * z * (1 - t * t) * (z * z * (3 * k) + c);
}

#undef FN
#undef BITS
#undef UNSIGNED
#undef FRACTION_BITS
#undef BIAS
#undef ROUNDER
#undef LOG2E
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LEAST
#undef EXP_MOST
#undef FMA1
