/* a b + c, rounded once, for CPUs without an instruction for it: of + - x and whole numbers, which all CPUs have alike.

   In the comments, RN is the nearest number, and "two-sum" is Knuth's: s = RN(x + y) and e = x + y - s are exact.
   A number "rounded to odd" is the exact one, or that of its two neighbours whose last bit is 1.  It has the nearest
   number of fewer bits (at least two fewer) that the exact number has, because it lies in the middle between two of
   these only if the exact number does: S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums:
   proved algorithms using rounding to odd", IEEE Transactions on Computers 57 (2008). */

/* What is added to the bits of s, so that s + e is rounded to odd: where e is not 0 and the last bit of s is 0, s goes to
   its neighbour on the side of e.  NaN and infinite sums have no e, and stay as they are. */
#define TO_ODD(whole, s, e) ((1 | ((e > 0) ^ (s > 0))) & ((e > 0) | (e < 0)) & (((whole)s & 1) - 1))
#define IN_DOUBLES(x) __builtin_convertvector(x, double_32)

/* In doubles, where p = a b is exact, and nothing is too large or too small. */
static __attribute__((noinline)) float_16 fma_float_16(float_16 a, float_16 b, float_16 c) {
    const double_32 p = IN_DOUBLES(a) * IN_DOUBLES(b), c_ = IN_DOUBLES(c);
    const double_32 s = p + c_, t = s - p, e = (p - (s - t)) + (c_ - t);
    return __builtin_convertvector((double_32)((whole_32)s + TO_ODD(whole_32, s, e)), float_16);
}

static __attribute__((noinline)) double_16 fma_of_libm(double_16 a, double_16 b, double_16 c) {
    for (int i = 0; i < 2; i++)
        c[i] = __builtin_fma(a[i], b[i], c[i]);
    return c;
}

INLINE double_16 size_of(double_16 x) { return (double_16)((whole_16)x & INT64_MAX); }

/* Boldo and Melquiond's: a b = p + q exactly (Dekker); c + q = t + t_l and p + t = v + v_l by two-sums; then the result is
   RN(v + z), where z is t_l + v_l rounded to odd.  Where a b or c is 0, it is RN(p + c), with its sign.  Numbers for which
   q might be too small, or something too large, are left to the C library. */
static __attribute__((noinline)) double_16 fma_double_16(double_16 a, double_16 b, double_16 c) {
    const double_16 a_size = size_of(a), b_size = size_of(b), c_size = size_of(c);
    const whole_16 has_no_product = (a == 0) | (b == 0), is_one_sum = has_no_product | (c == 0);
    const whole_16 is_large = (a_size > 0x1p-400) & (b_size > 0x1p-400) & ((c_size > 0x1p-900) | (c == 0));
    const whole_16 is_small = (a_size < 0x1p400) & (b_size < 0x1p400) & (c_size < 0x1p900); /* NaN is not */
    const whole_16 is_usual = is_small & (has_no_product | is_large);
    if (__builtin_expect(!(is_usual[0] & is_usual[1]), 0))
        return fma_of_libm(a, b, c);
    const double_16 a_split = a * 0x1.0000002p27, a_h = a_split - (a_split - a), a_l = a - a_h;
    const double_16 b_split = b * 0x1.0000002p27, b_h = b_split - (b_split - b), b_l = b - b_h;
    const double_16 p = a * b, q = a_l * b_l - (((p - a_h * b_h) - a_l * b_h) - a_h * b_l);
    const double_16 t = c + q, t_c = t - c, t_l = (c - (t - t_c)) + (q - t_c);
    const double_16 v = p + t, v_p = v - p, v_l = (p - (v - v_p)) + (t - v_p);
    const double_16 s = t_l + v_l, s_t = s - t_l, e = (t_l - (s - s_t)) + (v_l - s_t);
    const double_16 sum = v + (double_16)((whole_16)s + TO_ODD(whole_16, s, e)), one_sum = p + c;
    return (double_16)(((whole_16)one_sum & is_one_sum) | ((whole_16)sum & ~is_one_sum));
}

INLINE float fused_float(float a, float b, float c) { return fma_float_16((float_16){a}, (float_16){b}, (float_16){c})[0]; }
INLINE double fused_double(double a, double b, double c) {
    return fma_double_16((double_16){a}, (double_16){b}, (double_16){c})[0];
}
