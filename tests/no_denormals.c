/* Preloaded: the main thread takes denormal numbers for 0, as a library does that was linked with -ffast-math. */
#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((constructor)) static void begin(void) { _mm_setcsr(_mm_getcsr() | 0x8040); }
#elif defined(__aarch64__)
__attribute__((constructor)) static void begin(void) {
    unsigned long control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" ::"r"(control | 1ul << 24));
}
#endif
