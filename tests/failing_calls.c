/* Preloaded: calls on some files fail, as if the disk or the file server were away.

   FAILING_PATH   files whose absolute path holds this text count
   FAILING_CALLS  which calls, with commas between them; not set: open.  Also: write (pwrite too), fsync, truncate,
                  rename, link, unlink, mkdir
   FAILING_ERRNO  what the system says, as a number
   FAILING_FROM   the first call that fails, from 1 on
   FAILING_COUNT  how many fail from there on; 0: all
   FAILING_LOG    a file that gets a line for each call that counts
   FAILING_DONE   if set, the call is made all the same, and only its answer is lost, as in a network
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
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

/* Whether `call` is among those with commas between them. */
static int is_asked(const char *call) {
    const char *calls = getenv("FAILING_CALLS");
    size_t length = strlen(call);
    for (const char *at = calls ? calls : "open"; (at = strstr(at, call)); at += length)
        if ((at == calls || !calls || at[-1] == ',') && (!at[length] || at[length] == ','))
            return 1;
    return 0;
}

static int fails(const char *call, int directory, const char *path) {
    static long calls;
    char whole[2 * PATH_MAX] = "", line[2 * PATH_MAX + 64];
    const char *wanted = getenv("FAILING_PATH"), *log = getenv("FAILING_LOG");
    if (!wanted || !is_asked(call))
        return 0;
    if (path[0] != '/' && directory == AT_FDCWD && getcwd(whole, PATH_MAX))
        strcat(whole, "/");
    strncat(whole, path, PATH_MAX - 1);
    if (!strstr(whole, wanted))
        return 0;
    calls++;
    if (log) {
        int file = REAL(openat)(AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0666);
        int length = snprintf(line, sizeof line, "%ld %s %s\n", calls, call, whole);
        if (file >= 0) {
            if (REAL(write)(file, line, length) < 0)
                perror(log);
            close(file);
        }
    }
    long from = number("FAILING_FROM"), count = number("FAILING_COUNT");
    return from && calls >= from && (!count || calls < from + count);
}

static int refused(void) {
    errno = (int)number("FAILING_ERRNO");
    return -1;
}

/* The same for an open file, by its name in /proc. */
static int fails_open_file(const char *call, int file) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(call, AT_FDCWD, path);
}

#define OPEN_AT(directory, path, flags)                                                                                \
    va_list rest;                                                                                                      \
    va_start(rest, flags);                                                                                             \
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, int) : 0;                                                \
    va_end(rest);                                                                                                      \
    return fails("open", directory, path) ? refused() : REAL(openat)(directory, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD, path, flags); }
int open64(const char *path, int flags, ...) { OPEN_AT(AT_FDCWD, path, flags); }
int openat(int directory, const char *path, int flags, ...) { OPEN_AT(directory, path, flags); }
int openat64(int directory, const char *path, int flags, ...) { OPEN_AT(directory, path, flags); }

/* `made` is the call itself; where it fails it is made, too, if only its answer is to be lost. */
#define ANSWER(failing, made)                                                                                          \
    if (!(failing))                                                                                                    \
        return made;                                                                                                   \
    if (getenv("FAILING_DONE") && (made) < 0)                                                                          \
        return -1;                                                                                                     \
    return refused()

ssize_t write(int file, const void *data, size_t size) {
    ANSWER(fails_open_file("write", file), REAL(write)(file, data, size));
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    ANSWER(fails_open_file("write", file), REAL(pwrite)(file, data, size, at));
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    ANSWER(fails_open_file("write", file), REAL(pwrite64)(file, data, size, at));
}
int fsync(int file) {
    ANSWER(fails_open_file("fsync", file), REAL(fsync)(file));
}
int ftruncate64(int file, off64_t size) {
    ANSWER(fails_open_file("truncate", file), REAL(ftruncate64)(file, size));
}
int rename(const char *from, const char *to) {
    ANSWER(fails("rename", AT_FDCWD, to), REAL(rename)(from, to));
}
int link(const char *from, const char *to) {
    ANSWER(fails("link", AT_FDCWD, to), REAL(link)(from, to));
}
int linkat(int old, const char *from, int new, const char *to, int flags) {
    ANSWER(fails("link", new, to), REAL(linkat)(old, from, new, to, flags));
}
int unlink(const char *path) {
    ANSWER(fails("unlink", AT_FDCWD, path), REAL(unlink)(path));
}
int mkdir(const char *path, mode_t mode) {
    ANSWER(fails("mkdir", AT_FDCWD, path), REAL(mkdir)(path, mode));
}
