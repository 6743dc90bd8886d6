/* Which kinds of CPU, by their number in library.py, this one is. */

#include <stdint.h>

/* Whether fma and fmaf of the C library round once: for sums next to the middle between two numbers, where it is lost
   that they are beyond the middle if a b, or a sum in more digits, is rounded before; and for the smallest numbers.
   (1 + h) (1 - h + h²) = 1 + h³, and all three factors are numbers of the type. */
static int is_fma_exact(void) {
    const volatile double h = 0x1p-26, one = 1, least = 0x1p-1074;
    const volatile float h_f = 0x1p-12f, one_f = 1, least_f = 0x1p-149f;
    const volatile double above = 1 + h, below = 1 - h + h * h;
    const volatile float above_f = 1 + h_f, below_f = 1 - h_f + h_f * h_f;
    return __builtin_fma(above, below, -one) == 0x1p-78 && __builtin_fma(above * 0x1p-53, below, one) == 1 + 0x1p-52 &&
           __builtin_fma(above * 0x1p-537, below * 0x1p-538, 2 * least) == 3 * least &&
           __builtin_fmaf(above_f, below_f, -one_f) == 0x1p-36f &&
           __builtin_fmaf(above_f * 0x1p-24f, below_f, one_f) == 1 + 0x1p-23f &&
           __builtin_fmaf(above_f * 0x1p-74f, below_f * 0x1p-76f, 2 * least_f) == 3 * least_f;
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
