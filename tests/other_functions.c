/* Preloaded: cos, exp, log, pow and the like have another last bit, as those of another C library may have.

   A result that is exact, such as 2^3 or exp 0, stays as it is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define CHANGED(name, type, whole, low)                                                                                \
    static type name(type value) {                                                                                     \
        whole bits;                                                                                                    \
        memcpy(&bits, &value, sizeof bits);                                                                            \
        if (isfinite(value) && bits & low)                                                                             \
            bits ^= 1;                                                                                                 \
        memcpy(&value, &bits, sizeof bits);                                                                            \
        return value;                                                                                                  \
    }
CHANGED(changed, double, uint64_t, 0xfffff)
CHANGED(changed_float, float, uint32_t, 0xfff)

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
