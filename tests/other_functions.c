/* Preloaded: cos, exp, log, pow and the like have another last bit, as those of another C library may have.

   A result that is exact, such as 2^3 or exp 0, stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

static double changed(double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    if (isfinite(value) && bits & 0xfffff)
        bits ^= 1;
    memcpy(&value, &bits, 8);
    return value;
}

static float changed_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (isfinite(value) && bits & 0xfff)
        bits ^= 1;
    memcpy(&value, &bits, 4);
    return value;
}

/* The function of that name in the C library, looked up once. */
#define FIND(name)                                                                                                     \
    static __typeof__(&name) real;                                                                                     \
    if (!real)                                                                                                         \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);
#define ONE(name)                                                                                                      \
    double name(double x) {                                                                                            \
        FIND(name)                                                                                                     \
        return changed(real(x));                                                                                       \
    }                                                                                                                  \
    float name##f(float x) {                                                                                           \
        FIND(name##f)                                                                                                  \
        return changed_float(real(x));                                                                                 \
    }

ONE(cos)
ONE(sin)
ONE(exp)
ONE(exp2)
ONE(expm1)
ONE(log)
ONE(log2)
ONE(log10)
ONE(log1p)
ONE(tanh)

double pow(double x, double y) {
    FIND(pow)
    return changed(real(x, y));
}

float powf(float x, float y) {
    FIND(powf)
    return changed_float(real(x, y));
}
