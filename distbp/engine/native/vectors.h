/* Vectors of REAL numbers, and the fused multiply-add, for the CPU that this file is compiled for.

   float_64 is a vector of floats in 64 bytes, and so on; fma_float_64(a, b, c) = a b + c, rounded once: HAS_FMA; and
   fused_float is the same for one number.  Where the CPU may have no such instruction, one of two is compiled.  With
   EXACT_FMA it is computed as in exact_fma.h, which is slow and has the same bits.  Else a b + c is rounded twice,
   which is fast, and the bits are others. */

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline __attribute__((always_inline))

typedef float float_64 __attribute__((vector_size(64), aligned(4)));
typedef float float_32 __attribute__((vector_size(32), aligned(4)));
typedef float float_16 __attribute__((vector_size(16), aligned(4)));
typedef double double_64 __attribute__((vector_size(64), aligned(8)));
typedef double double_32 __attribute__((vector_size(32), aligned(8)));
typedef double double_16 __attribute__((vector_size(16), aligned(8)));
typedef int64_t whole_32 __attribute__((vector_size(32), aligned(8)));
typedef int64_t whole_16 __attribute__((vector_size(16), aligned(8)));

#define FUSED(vector, instruction, native)                                                                            \
    INLINE vector PASTE(fma_, vector)(vector a, vector b, vector c) {                                                  \
        return (vector)instruction((native)a, (native)b, (native)c);                                                   \
    }
#define ONE_BY_ONE(vector, function)                                                                                   \
    INLINE vector PASTE(fma_, vector)(vector a, vector b, vector c) {                                                  \
        for (unsigned i = 0; i < sizeof a / sizeof a[0]; i++)                                                          \
            c[i] = function(a[i], b[i], c[i]);                                                                         \
        return c;                                                                                                      \
    }
#define TWICE(vector)                                                                                                  \
    INLINE vector PASTE(fma_, vector)(vector a, vector b, vector c) { return a * b + c; }

#if defined(__AVX512F__)
FUSED(float_64, _mm512_fmadd_ps, __m512)
FUSED(double_64, _mm512_fmadd_pd, __m512d)
#endif
#if defined(__FMA__)
FUSED(float_32, _mm256_fmadd_ps, __m256)
FUSED(float_16, _mm_fmadd_ps, __m128)
FUSED(double_32, _mm256_fmadd_pd, __m256d)
FUSED(double_16, _mm_fmadd_pd, __m128d)
#define HAS_FMA 1
#elif defined(__aarch64__)
INLINE float_16 fma_float_16(float_16 a, float_16 b, float_16 c) { return (float_16)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE double_16 fma_double_16(double_16 a, double_16 b, double_16 c) { return (double_16)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#define HAS_FMA 1
#elif defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF)
ONE_BY_ONE(float_16, __builtin_fmaf)
ONE_BY_ONE(double_16, __builtin_fma)
#define HAS_FMA 1
#elif defined(EXACT_FMA)
#include "exact_fma.h"
#define HAS_FMA 1
#else
TWICE(float_16)
TWICE(double_16)
INLINE float fused_float(float a, float b, float c) { return a * b + c; }
INLINE double fused_double(double a, double b, double c) { return a * b + c; }
#define HAS_FMA 0
#endif
#if HAS_FMA && !defined(TO_ODD)
INLINE float fused_float(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
INLINE double fused_double(double a, double b, double c) { return __builtin_fma(a, b, c); }
#endif

/* Rows become columns: of a square of as many numbers as 16 bytes hold. */
#if defined(__clang__)
#define SHUFFLE(vector, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(vector, a, b, ...) __builtin_shuffle(a, b, (PASTE(places_, vector)){__VA_ARGS__})
#endif
typedef int32_t places_float_16 __attribute__((vector_size(16)));
typedef int64_t places_double_16 __attribute__((vector_size(16)));

INLINE void turn_float(const float *from, int64_t row, float *to, int64_t to_row) {
    float_16 r[4], half[4];
    for (int i = 0; i < 4; i++)
        r[i] = *(const float_16 *)(from + i * row);
    half[0] = SHUFFLE(float_16, r[0], r[1], 0, 4, 1, 5), half[1] = SHUFFLE(float_16, r[2], r[3], 0, 4, 1, 5);
    half[2] = SHUFFLE(float_16, r[0], r[1], 2, 6, 3, 7), half[3] = SHUFFLE(float_16, r[2], r[3], 2, 6, 3, 7);
    for (int i = 0; i < 2; i++) {
        *(float_16 *)(to + 2 * i * to_row) = SHUFFLE(float_16, half[2 * i], half[2 * i + 1], 0, 1, 4, 5);
        *(float_16 *)(to + (2 * i + 1) * to_row) = SHUFFLE(float_16, half[2 * i], half[2 * i + 1], 2, 3, 6, 7);
    }
}

INLINE void turn_double(const double *from, int64_t row, double *to, int64_t to_row) {
    const double_16 first = *(const double_16 *)from, second = *(const double_16 *)(from + row);
    *(double_16 *)to = SHUFFLE(double_16, first, second, 0, 2);
    *(double_16 *)(to + to_row) = SHUFFLE(double_16, first, second, 1, 3);
}
