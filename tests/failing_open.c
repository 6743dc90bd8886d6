/* Preloaded: the opens of some files fail, as if the file server were away.

   FAILING_PATH   files whose absolute path holds this text count
   FAILING_ERRNO  what the system says, as a number
   FAILING_FROM   the first open that fails, from 1 on
   FAILING_COUNT  how many fail from there on; 0: all
   FAILING_LOG    a file that gets a line for each open that counts
*/
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int (*opener)(int, const char *, int, ...);

static opener real(void) {
    static opener found;
    if (!found)
        found = (opener)dlsym(RTLD_NEXT, "openat");
    return found;
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int fails(int directory, const char *path) {
    static long calls;
    char whole[2 * PATH_MAX] = "", line[2 * PATH_MAX + 64];
    const char *wanted = getenv("FAILING_PATH"), *log = getenv("FAILING_LOG");
    if (!wanted)
        return 0;
    if (path[0] != '/' && directory == AT_FDCWD && getcwd(whole, PATH_MAX))
        strcat(whole, "/");
    strncat(whole, path, PATH_MAX - 1);
    if (!strstr(whole, wanted))
        return 0;
    calls++;
    if (log) {
        int file = real()(AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0666);
        int length = snprintf(line, sizeof line, "%ld %s\n", calls, whole);
        if (file >= 0) {
            if (write(file, line, length) < 0)
                perror(log);
            close(file);
        }
    }
    long from = number("FAILING_FROM"), count = number("FAILING_COUNT");
    if (!from || calls < from || (count && calls >= from + count))
        return 0;
    errno = (int)number("FAILING_ERRNO");
    return 1;
}

#define OPEN_AT(directory, path, flags)                                                                                \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;                                                \
    va_end(rest);                                                                                                      \
    return fails(directory, path) ? -1 : real()(directory, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD, path, flags); }
int open64(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD, path, flags); }
int openat(int directory, const char *path, int flags, ...) { OPEN_AT(directory, path, flags); }
int openat64(int directory, const char *path, int flags, ...) { OPEN_AT(directory, path, flags); }
