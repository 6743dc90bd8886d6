/* Which kinds of CPU, by their number in library.py, this one is. */

#include <stdint.h>

/* Whether fma of the C library rounds once: for sums next to the middle between two numbers, where it is lost that they
   are beyond the middle if a b, or a sum in more digits, is rounded before; and for the smallest numbers.
   (1 + h) (1 - h + h²) = 1 + h³, and all three factors are doubles. */
static int is_fma_exact(void) {
    const volatile double h = 0x1p-26, one = 1, least = 0x1p-1074, above = 1 + h, below = 1 - h + h * h;
    return __builtin_fma(above, below, -one) == 0x1p-78 && __builtin_fma(above * 0x1p-53, below, one) == 1 + 0x1p-52 &&
           __builtin_fma(above * 0x1p-537, below * 0x1p-538, 2 * least) == 3 * least;
}

__attribute__((visibility("default"))) int64_t can_run(int64_t kind) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (kind == 0)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (kind == 1)
        return avx2;
#endif
    return kind == 2 || (kind == 3 && is_fma_exact());
}
