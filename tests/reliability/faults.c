/* Faults below Python, for tests: preloaded into a process, this library stands between it and the system's calls.
 *
 * FULL_UNDER=/folder FULL_AT=n   from the n-th write to a file below the folder on, the disk is full (ENOSPC)
 * FULL_COUNT=/file               at its end the process appends its number of such writes to the file
 * CLOCK_TURNS=seconds            from this moment (seconds since 1970) on, the wall clock runs backwards
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long writes;

/* Whether this write hits a full disk. */
static int full(int descriptor) {
    static const char *under, *at;
    if (!under && !(under = getenv("FULL_UNDER"))) return 0;
    if (!at && !(at = getenv("FULL_AT"))) at = "0";
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, under, strlen(under))) return 0;
    long number = atomic_fetch_add(&writes, 1) + 1, limit = atol(at);
    if (!limit || number < limit) return 0;
    errno = ENOSPC;
    return 1;
}

__attribute__((destructor)) static void tell(void) {
    const char *name = getenv("FULL_COUNT");
    int file = name && writes ? open(name, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (file >= 0) dprintf(file, "%ld\n", (long)writes), close(file);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define DISK(type, name, parameters, arguments)             \
    type name parameters {                                  \
        static __typeof__(&name) real;                      \
        if (!real) real = REAL(name);                       \
        return full(descriptor) ? -1 : real arguments;      \
    }

DISK(ssize_t, write, (int descriptor, const void *bytes, size_t count), (descriptor, bytes, count))
DISK(ssize_t, writev, (int descriptor, const struct iovec *parts, int count), (descriptor, parts, count))
DISK(ssize_t, pwrite, (int descriptor, const void *bytes, size_t count, off_t place), (descriptor, bytes, count, place))
DISK(ssize_t, pwrite64, (int descriptor, const void *bytes, size_t count, off64_t place), (descriptor, bytes, count, place))
DISK(int, ftruncate, (int descriptor, off_t length), (descriptor, length))
DISK(int, ftruncate64, (int descriptor, off64_t length), (descriptor, length))
DISK(int, fsync, (int descriptor), (descriptor))

/* The wall clock, mirrored at the moment CLOCK_TURNS. The monotonic clocks stay as they are. */
static void turn(struct timespec *now) {
    const char *text = getenv("CLOCK_TURNS");
    if (!text) return;
    long turned = 2 * atol(text) - now->tv_sec;
    now->tv_sec = turned - (now->tv_nsec != 0);
    now->tv_nsec = now->tv_nsec ? 1000000000 - now->tv_nsec : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int result = real(clock, now);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) turn(now);
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
