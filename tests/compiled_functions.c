/* exp, log, tanh and the rest of functions.h for arrays, so that tests can call them. */

#include "vectors.h"

__attribute__((visibility("default"))) int64_t is_fused(void) { return HAS_FMA; }

#define FUNCTION(name, real)                                                                                           \
    __attribute__((visibility("default"))) void name##real(int64_t count, const real *x, real *out) {                                                        \
        for (int64_t i = 0; i < count; i++)                                                                            \
            out[i] = name##_##real(x[i]);                                                                              \
    }
#define FUNCTIONS(real)                                                                                                \
    FUNCTION(exp_, real)                                                                                               \
    FUNCTION(log_, real)                                                                                               \
    FUNCTION(small_log1p, real)                                                                                        \
    FUNCTION(sigmoid_, real)                                                                                           \
    FUNCTION(tanh_, real)                                                                                              \
    FUNCTION(softplus_, real)                                                                                          \
    FUNCTION(gelu_, real)                                                                                              \
    FUNCTION(gelu_prime_, real)

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
