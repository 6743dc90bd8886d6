/* Which kinds of CPU, by their number in library.py, this one is. */

#include <stdint.h>

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
    return kind == 2;
}
