/* exp, log, tanh and the rest of functions.h for arrays, so that tests can call them. */

#include "vectors.h"

__attribute__((visibility("default"))) int64_t is_fused(void) { return HAS_FMA; }

#define FUNCTION(name, real)                                                                                           \
    __attribute__((visibility("default"))) void name##real(int64_t count, const real *x, real *out) {                                                        \
        for (int64_t i = 0; i < count; i++)                                                                            \
            out[i] = name##_##real(x[i]);                                                                              \
    }
/* a b + c of rows (a, b, c): for one number, and in any place of a vector */
#define SUMS(real)                                                                                                     \
    __attribute__((visibility("default"))) void sums_##real(int64_t count, const real *abc, real *out) {               \
        for (int64_t i = 0; i < count; i++)                                                                            \
            out[i] = fused_##real(abc[3 * i], abc[3 * i + 1], abc[3 * i + 2]);                                         \
    }                                                                                                                  \
    __attribute__((visibility("default"))) void vector_sums_##real(int64_t count, const real *abc, real *out) {        \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            real##_16 a, b, c;                                                                                         \
            const int place = (int)(i % (int64_t)(16 / sizeof(real)));                                                 \
            a = b = c = (real##_16){0} + 1;                                                                            \
            a[place] = abc[3 * i], b[place] = abc[3 * i + 1], c[place] = abc[3 * i + 2];                               \
            out[i] = fma_##real##_16(a, b, c)[place];                                                                  \
        }                                                                                                              \
    }
#define FUNCTIONS(real)                                                                                                \
    FUNCTION(exp_, real)                                                                                               \
    FUNCTION(log_, real)                                                                                               \
    FUNCTION(small_log1p, real)                                                                                        \
    FUNCTION(sigmoid_, real)                                                                                           \
    FUNCTION(tanh_, real)                                                                                              \
    FUNCTION(softplus_, real)                                                                                          \
    FUNCTION(gelu_, real)                                                                                              \
    FUNCTION(gelu_prime_, real)                                                                                        \
    SUMS(real)

#define REAL float
#define REAL_IS_DOUBLE 0
#include "functions.h"
FUNCTIONS(float)
#undef REAL
#undef REAL_IS_DOUBLE

#define REAL double
#define REAL_IS_DOUBLE 1
#include "functions.h"
FUNCTIONS(double)
