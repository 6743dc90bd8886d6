/* A fence of the ranks of a node: what any of them stored before it is seen by all behind it.

   `arrived` counts those that have come; the last one begins the next turn.  Both lie in memory that the ranks share,
   and are 0 at first. */

#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

struct fence {
    _Atomic uint32_t arrived;
    char apart[60]; /* each has a cache line of its own */
    _Atomic uint32_t turn;
};

#define PATIENCE 0.05 /* seconds, after which a wait goes back to Python, whose signal handlers run then */

static inline double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Asks for memory that is going to be written, and that other ranks have read: their copies of it must go first. */
static inline void ask_to_write(void *at) {
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" ::"m"(*(char *)at));
#else
    __builtin_prefetch(at, 1);
#endif
}

/* Comes to the fence; the turn that ends when all have come. */
static inline int64_t arrive(const struct slice *slice) {
    struct fence *fence = slice->fence;
    const uint32_t turn = atomic_load_explicit(&fence->turn, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&fence->arrived, 1, memory_order_acq_rel) + 1 == (uint32_t)slice->ranks) {
        atomic_store_explicit(&fence->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&fence->turn, turn + 1, memory_order_release);
    }
    return turn;
}

/* Waits until a turn is over: first it spins, then it lets others run.  False after a long wait. */
static inline int is_over(const struct slice *slice, int64_t turn) {
    struct fence *fence = slice->fence;
    for (int64_t i = 0; i < slice->spins; i++) {
        if (atomic_load_explicit(&fence->turn, memory_order_acquire) != (uint32_t)turn)
            return 1;
        pause_briefly();
    }
    const double until = seconds() + PATIENCE;
    do {
        for (int i = 0; i < 16; i++) {
            if (atomic_load_explicit(&fence->turn, memory_order_acquire) != (uint32_t)turn)
                return 1;
            sched_yield();
        }
    } while (seconds() < until);
    return 0;
}
