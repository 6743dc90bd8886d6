/* Preloaded: the clock that tells the time of the day jumps, as if somebody had set it, for this process alone.

   jump_clock(SECONDS)   from now on it is so much later, or earlier: for ctypes.CDLL(None)
   JUMPED_SECONDS        so much at the start already, for all processes

   The clocks that nobody sets (CLOCK_MONOTONIC and its like) go on.  What is written into files by "now" jumps too.
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static volatile long ahead;

void jump_clock(long seconds) { ahead += seconds; }

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("JUMPED_SECONDS");
    if (text)
        ahead = atol(text);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real)
        real = REAL(clock_gettime);
    int failed = real(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        now->tv_sec += ahead;
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static __typeof__(&gettimeofday) real;
    if (!real)
        real = REAL(gettimeofday);
    int failed = real(now, zone);
    if (!failed)
        now->tv_sec += ahead;
    return failed;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

/* A file's times where "now" is asked for: none is given, or UTIME_NOW. */
static const struct timespec *times_of(const struct timespec *given, struct timespec *now) {
    clock_gettime(CLOCK_REALTIME, &now[0]);
    now[1] = now[0];
    for (int i = 0; given && i < 2; i++)
        if (given[i].tv_nsec != UTIME_NOW)
            now[i] = given[i];
    return now;
}

int utimensat(int directory, const char *path, const struct timespec given[2], int flags) {
    struct timespec now[2];
    return REAL(utimensat)(directory, path, times_of(given, now), flags);
}

int futimens(int file, const struct timespec given[2]) {
    struct timespec now[2];
    return REAL(futimens)(file, times_of(given, now));
}
