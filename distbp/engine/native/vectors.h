/* Vectors of REAL numbers, and the fused multiply-add, for the CPU that this file is compiled for.

   VECTOR(bytes) is a type of so many bytes; FMA(bytes)(a, b, c) = a b + c, rounded once.  Without such an instruction
   (the baseline of x86-64) it is rounded twice. */

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define INLINE static inline __attribute__((always_inline))

typedef float f32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x8 __attribute__((vector_size(32), aligned(4)));
typedef float f32x4 __attribute__((vector_size(16), aligned(4)));
typedef double f64x8 __attribute__((vector_size(64), aligned(8)));
typedef double f64x4 __attribute__((vector_size(32), aligned(8)));
typedef double f64x2 __attribute__((vector_size(16), aligned(8)));

#define FUSED(vector, instruction, native)                                                                            \
    INLINE vector PASTE(fma_, vector)(vector a, vector b, vector c) {                                                  \
        return (vector)instruction((native)a, (native)b, (native)c);                                                   \
    }
#define TWICE(vector)                                                                                                  \
    INLINE vector PASTE(fma_, vector)(vector a, vector b, vector c) { return a * b + c; }

#if defined(__AVX512F__)
FUSED(f32x16, _mm512_fmadd_ps, __m512)
FUSED(f64x8, _mm512_fmadd_pd, __m512d)
#endif
#if defined(__FMA__)
FUSED(f32x8, _mm256_fmadd_ps, __m256)
FUSED(f32x4, _mm_fmadd_ps, __m128)
FUSED(f64x4, _mm256_fmadd_pd, __m256d)
FUSED(f64x2, _mm_fmadd_pd, __m128d)
#define HAS_FMA 1
#elif defined(__aarch64__)
INLINE f32x4 fma_f32x4(f32x4 a, f32x4 b, f32x4 c) { return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE f64x2 fma_f64x2(f64x2 a, f64x2 b, f64x2 c) { return (f64x2)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#define HAS_FMA 1
#else
TWICE(f32x4)
TWICE(f64x2)
#define HAS_FMA 0
#endif

/* Rows become columns: of a square of as many numbers as 16 bytes hold. */
#if defined(__clang__)
#define SHUFFLE(vector, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(vector, a, b, ...) __builtin_shuffle(a, b, (PASTE(places_, vector)){__VA_ARGS__})
#endif
typedef int32_t places_f32x4 __attribute__((vector_size(16)));
typedef int64_t places_f64x2 __attribute__((vector_size(16)));

INLINE void turn_float(const float *from, int64_t row, float *to, int64_t to_row) {
    f32x4 r[4], half[4];
    for (int i = 0; i < 4; i++)
        r[i] = *(const f32x4 *)(from + i * row);
    half[0] = SHUFFLE(f32x4, r[0], r[1], 0, 4, 1, 5), half[1] = SHUFFLE(f32x4, r[2], r[3], 0, 4, 1, 5);
    half[2] = SHUFFLE(f32x4, r[0], r[1], 2, 6, 3, 7), half[3] = SHUFFLE(f32x4, r[2], r[3], 2, 6, 3, 7);
    for (int i = 0; i < 2; i++) {
        *(f32x4 *)(to + 2 * i * to_row) = SHUFFLE(f32x4, half[2 * i], half[2 * i + 1], 0, 1, 4, 5);
        *(f32x4 *)(to + (2 * i + 1) * to_row) = SHUFFLE(f32x4, half[2 * i], half[2 * i + 1], 2, 3, 6, 7);
    }
}

INLINE void turn_double(const double *from, int64_t row, double *to, int64_t to_row) {
    const f64x2 first = *(const f64x2 *)from, second = *(const f64x2 *)(from + row);
    *(f64x2 *)to = SHUFFLE(f64x2, first, second, 0, 2);
    *(f64x2 *)(to + to_row) = SHUFFLE(f64x2, first, second, 1, 3);
}
