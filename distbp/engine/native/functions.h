/* exp, log and tanh for REAL numbers, of + - x ÷ and fused multiply-add alone.  Included once for each REAL.

   They have no branches, so that the compiler makes vector code of the loops that call them.  Each operation is written
   out, so that the bits are those of the formulas, whatever the vector width: no function of libm is called. */

#define FN(name) PASTE(name, PASTE(_, REAL))
#undef LEAST_NORMAL /* these two stay defined: step.h needs them */
#undef MOST

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
#define LEAST_NORMAL 0x1p-1022
#define MOST 0x1.fffffffffffffp1023
#define FMA1(a, b, c) fused_double(a, b, c)
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
#define LEAST_NORMAL 0x1p-126f
#define MOST 0x1.fffffep127f
#define FMA1(a, b, c) fused_float(a, b, c)
#endif

union FN(bits) {
    REAL real;
    UNSIGNED bits;
};

/* |x|, and x with the sign of y: for -0 and NaN, too */
INLINE REAL FN(size_of)(REAL x) {
    union FN(bits) u = {.real = x};
    u.bits &= ~(UNSIGNED)0 >> 1;
    return u.real;
}
INLINE REAL FN(with_sign_of)(REAL y, REAL x) {
    union FN(bits) u = {.real = x}, v = {.real = y};
    u.bits |= v.bits & ~(~(UNSIGNED)0 >> 1);
    return u.real;
}

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

/* ln x: x = 2^n m with m around 1, and ln m = 2 artanh s, s = (m - 1) / (m + 1) */
INLINE REAL FN(log_)(REAL x) {
    const REAL scale = (REAL)((UNSIGNED)1 << (FRACTION_BITS + 1)), normal = x < LEAST_NORMAL ? x * scale : x;
    union FN(bits) u = {.real = normal}, root_half = {.real = (REAL)0.70710678118654752};
    const BITS n = (BITS)(u.bits - root_half.bits) >> FRACTION_BITS;
    u.bits -= (UNSIGNED)n << FRACTION_BITS;
    const REAL whole = (REAL)n - (x < LEAST_NORMAL ? (REAL)(FRACTION_BITS + 1) : 0);
    const REAL f = u.real - 1, s = f / (f + 2), s2 = s * s;
    const REAL rest = FN(artanh_series)(s2) * s2; /* 2 artanh s = 2 s + s rest, and 2 s = f - s f */
    const REAL ln = FMA1(whole, LN2_HIGH, f - FMA1(s, f - rest, -(whole * LN2_LOW)));
    const REAL none = x - x, beyond = x > 0 ? x : x == 0 ? -1 / (x * x) : none / none; /* inf; -inf; NaN */
    return x > 0 && x <= MOST ? ln : beyond;
}

/* ln(1 + u) for 0 <= u <= 1 */
INLINE REAL FN(small_log1p)(REAL u) {
    const REAL s = u / (u + 2), s2 = s * s;
    return u - s * (u - FN(artanh_series)(s2) * s2);
}

/* 1 / (1 + e^-z), from e^-|z|, which does not overflow.  What is lost of the sum 1 + e is put right to first order:
   with e / (1 + e) = σ its reciprocal is 1 - σ, and with 1 / (1 + e) = σ it is σ. */
INLINE REAL FN(sigmoid_)(REAL z) {
    const REAL e = FN(exp_)(-FN(size_of)(z)), sum = 1 + e, lost = e - (sum - 1);
    const REAL sigma = (z > 0 ? (REAL)1 : e) / sum;
    return sigma - sigma * (z > 0 ? sigma : 1 - sigma) * lost;
}

/* tanh x = t / (t + 2) = 1 - 2 / (t + 2) with t = e^{2x} - 1, for x = |z|: then t >= 0.  In the first form, which is for
   t <= 2, what is lost of t and of the sum is put right to first order: 1 / (t + 2) = (1 - tanh x) / 2. */
INLINE REAL FN(tanh_)(REAL z) {
    BITS n;
    const REAL x = FN(size_of)(z), most = REAL_IS_DOUBLE ? 22 : 11; /* from there on it is 1 */
    const REAL q = FN(small_expm1)(FN(reduce)(x > most ? 2 * most : 2 * x, &n)), power = FN(power_of_2)(n);
    const REAL t = FMA1(power, q, power - 1), of_t = power * q - (t - (power - 1));
    const REAL sum = t + 2, of_sum = t - (sum - 2) + of_t, ratio = (t > 2 ? (REAL)-2 : t) / sum;
    const REAL right = ratio + (1 - ratio) * (REAL)0.5 * (of_t - ratio * of_sum);
    return FN(with_sign_of)(z, t > 2 ? 1 + ratio : right);
}

/* ln(1 + e^z) = max(z, 0) + ln(1 + e^-|z|) */
INLINE REAL FN(softplus_)(REAL z) {
    return (z < 0 ? 0 : z) + FN(small_log1p)(FN(exp_)(-FN(size_of)(z)));
}

/* 2 u = 2 √(2/π) (z + k z³), and (2 u)' */
#define GELU_C 1.5957691216057308
#define GELU_K 0.044715
INLINE REAL FN(gelu_2u)(REAL z) { return z * FMA1(z * z, (REAL)(GELU_C * GELU_K), (REAL)GELU_C); }
INLINE REAL FN(gelu_2u_prime)(REAL z) { return FMA1(z * z, (REAL)(3 * GELU_C * GELU_K), (REAL)GELU_C); }

/* z/2 (1 + tanh u) = z / (1 + e^{-2u}).  Below -32 it is 0. */
INLINE REAL FN(gelu_)(REAL z) {
    const REAL inside = z < -32 ? -32 : z, e = FN(exp_)(-FN(size_of)(FN(gelu_2u)(inside)));
    return inside * (inside > 0 ? (REAL)1 : e) / (1 + e);
}

/* Its derivative: σ + z σ' (2 u)' with σ = 1 / (1 + e^{-2u}) and σ' = σ (1 - σ).  Below -32 it is 0, above 32 it is 1. */
INLINE REAL FN(gelu_prime_)(REAL z) {
    const REAL inside = z < -32 ? -32 : z > 32 ? 32 : z, e = FN(exp_)(-FN(size_of)(FN(gelu_2u)(inside)));
    const REAL ratio = 1 / (1 + e), small = e * ratio; /* σ and 1 - σ, or the other way round */
    return FMA1(inside * ratio * small, FN(gelu_2u_prime)(inside), inside > 0 ? ratio : small);
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
#undef GELU_C
#undef GELU_K
#undef FMA1
