/* Notes everything a process does to the files of one directory, so that a power cut can be shown.
 *
 * Loaded with LD_PRELOAD below an unmodified SQLite and Python. Nothing is noted before
 * kp_trace(); from then on each change to a file directly inside the root is done first and then
 * appended to the trace, both under one lock, so that the trace's order is the disk's. What
 * this cannot follow (a shared writable mapping of a database, say) is noted as 'X', and whoever
 * reads the trace must refuse it. tests/faults/disks/disk.py reads it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

/* The header fixes these to their 64-bit names; both names are defined below. */
#undef open
#undef openat
#undef pwrite
#undef ftruncate
#undef mmap
#undef statvfs

enum { UNTRACED, CONTENT, DIRECTORY, SCRATCH };
enum { CREATED = 1, EMPTIED = 2, IS_DIRECTORY = 4, IS_SCRATCH = 8 };
#define MOST_DESCRIPTORS 65536

struct record {
    uint8_t op, flags;
    uint16_t unused;
    int32_t descriptor;
    int64_t offset;
    uint32_t first, second; /* lengths of what follows */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[4096];
static size_t root_length;
static int trace = -1;
static long die_after = -1;      /* changes until this process kills itself */
static int64_t room = -1;        /* bytes files may still grow by; -1: no limit */
static uint8_t kinds[MOST_DESCRIPTORS];

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void note(char op, int flags, int descriptor, int64_t offset,
                 const void *first, size_t n1, const void *second, size_t n2)
{
    struct record head = {(uint8_t)op, (uint8_t)flags, 0, descriptor, offset, n1, n2};
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)first, n1}, {(void *)second, n2}};
    if (writev(trace, parts, 3) != (ssize_t)(sizeof head + n1 + n2))
        kill(getpid(), SIGABRT); /* a trace with a hole proves nothing */
    if (op != 'M' && op != 'O' && op != 'C' && die_after >= 0 && die_after-- == 0)
        kill(getpid(), SIGKILL);
}

/* The name inside the root, "" for the root itself, NULL for what lies elsewhere. */
static const char *inside(const char *path)
{
    if (trace < 0 || !path || strncmp(path, root, root_length))
        return NULL;
    if (!path[root_length])
        return "";
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static int kind(int descriptor)
{
    return trace >= 0 && descriptor >= 0 && descriptor < MOST_DESCRIPTORS ? kinds[descriptor]
                                                                          : UNTRACED;
}

static void unsupported(const char *what)
{
    pthread_mutex_lock(&lock);
    note('X', 0, -1, 0, what, strlen(what), NULL, 0);
    pthread_mutex_unlock(&lock);
}

/* The controls, called through ctypes. */

void kp_trace(const char *directory, const char *trace_file, long changes)
{
    int descriptor = open64(trace_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pthread_mutex_lock(&lock);
    root_length = strlen(directory);
    memcpy(root, directory, root_length + 1);
    die_after = changes;
    trace = descriptor;
    pthread_mutex_unlock(&lock);
}

void kp_mark(const char *text, size_t length)
{
    pthread_mutex_lock(&lock);
    note('M', 0, -1, 0, text, length, NULL, 0);
    pthread_mutex_unlock(&lock);
}

void kp_room(long long bytes)
{
    pthread_mutex_lock(&lock);
    room = bytes;
    pthread_mutex_unlock(&lock);
}

/* Opening and closing. */

static int noted_open(int (*really)(int, const char *, int, mode_t), int at, const char *path,
                      int flags, mode_t mode, const char *name)
{
    struct stat found;
    pthread_mutex_lock(&lock);
    int existed = stat(path, &found) == 0;
    int descriptor = really(at, path, flags, mode);
    int error = errno;
    if (descriptor >= 0) {
        size_t length = strlen(name);
        int scratch = length > 4 && !strcmp(name + length - 4, "-shm");
        int what = *name ? 0 : IS_DIRECTORY;
        if (strchr(name, '/') || descriptor >= MOST_DESCRIPTORS)
            note('X', 0, -1, 0, path, strlen(path), NULL, 0);
        if (*name && !existed)
            what |= CREATED;
        if (existed && (flags & O_TRUNC))
            what |= EMPTIED;
        if (scratch)
            what |= IS_SCRATCH;
        kinds[descriptor] = !*name ? DIRECTORY : scratch ? SCRATCH : CONTENT;
        note('O', what, descriptor, 0, name, length, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return descriptor;
}

static int plain_openat(int at, const char *path, int flags, mode_t mode)
{
    REAL(openat64);
    return real(at, path, flags, mode);
}

static int any_open(int at, const char *path, int flags, mode_t mode)
{
    const char *name = inside(path);
    if (!name)
        return plain_openat(at, path, flags, mode);
    return noted_open(plain_openat, at, path, flags, mode, name);
}

#define MODE(after) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; va_start(rest, after); mode = va_arg(rest, mode_t); va_end(rest); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return any_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return any_open(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return any_open(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return any_open(at, path, flags, mode); }

int close(int descriptor)
{
    REAL(close);
    if (kind(descriptor) == UNTRACED)
        return real(descriptor);
    pthread_mutex_lock(&lock);
    int result = real(descriptor);
    kinds[descriptor] = UNTRACED;
    note('C', 0, descriptor, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Content. */

static ssize_t noted_write(int descriptor, const void *data, size_t length, int64_t offset, int moves)
{
    struct stat found;
    ssize_t done;
    pthread_mutex_lock(&lock);
    if (offset < 0) {
        fstat(descriptor, &found);
        offset = fcntl(descriptor, F_GETFL) & O_APPEND ? found.st_size
                                                       : lseek64(descriptor, 0, SEEK_CUR);
    }
    if (room >= 0 && fstat(descriptor, &found) == 0) {
        int64_t growth = offset + (int64_t)length - found.st_size;
        if (growth > room) {
            int64_t fits = (int64_t)length - (growth - room);
            length = fits > 0 ? (size_t)fits : 0;
            growth = room;
            if (!length) {
                pthread_mutex_unlock(&lock);
                errno = ENOSPC;
                return -1;
            }
        }
        if (growth > 0)
            room -= growth;
    }
    if (moves) {
        REAL(write);
        done = real(descriptor, data, length);
    } else {
        REAL(pwrite64);
        done = real(descriptor, data, length, offset);
    }
    int error = errno;
    if (done > 0 && kinds[descriptor] == CONTENT)
        note('W', 0, descriptor, offset, data, (size_t)done, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int descriptor, const void *data, size_t length)
{
    REAL(write);
    return kind(descriptor) ? noted_write(descriptor, data, length, -1, 1)
                            : real(descriptor, data, length);
}

ssize_t pwrite64(int descriptor, const void *data, size_t length, off64_t offset)
{
    REAL(pwrite64);
    return kind(descriptor) ? noted_write(descriptor, data, length, offset, 0)
                            : real(descriptor, data, length, offset);
}

ssize_t pwrite(int descriptor, const void *data, size_t length, off_t offset)
{
    return pwrite64(descriptor, data, length, offset);
}

int ftruncate64(int descriptor, off64_t size)
{
    REAL(ftruncate64);
    if (kind(descriptor) == UNTRACED)
        return real(descriptor, size);
    pthread_mutex_lock(&lock);
    int result = real(descriptor, size), error = errno;
    if (result == 0 && kinds[descriptor] == CONTENT)
        note('T', 0, descriptor, size, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

/* A sync is only noted: nothing here needs the real disk, and a campaign makes a million. */
static int noted_sync(int descriptor)
{
    pthread_mutex_lock(&lock);
    note('S', 0, descriptor, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int descriptor)
{
    REAL(fsync);
    return kind(descriptor) ? noted_sync(descriptor) : real(descriptor);
}

int fdatasync(int descriptor)
{
    REAL(fdatasync);
    return kind(descriptor) ? noted_sync(descriptor) : real(descriptor);
}

/* Names. */

int rename(const char *from, const char *to)
{
    REAL(rename);
    const char *old = inside(from), *new = inside(to);
    if (!old && !new)
        return real(from, to);
    if (!old || !new)
        unsupported("a rename across the root");
    pthread_mutex_lock(&lock);
    int result = real(from, to), error = errno;
    if (result == 0 && old && new)
        note('R', 0, -1, 0, old, strlen(old), new, strlen(new));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path)
{
    REAL(unlink);
    const char *name = inside(path);
    if (!name)
        return real(path);
    pthread_mutex_lock(&lock);
    int result = real(path), error = errno;
    if (result == 0)
        note('U', 0, -1, 0, name, strlen(name), NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int statvfs64(const char *path, struct statvfs64 *found)
{
    REAL(statvfs64);
    int result = real(path, found);
    if (result == 0 && room >= 0 && inside(path))
        found->f_bavail = found->f_bfree = (fsblkcnt64_t)room / found->f_frsize;
    return result;
}

int statvfs(const char *path, struct statvfs *found)
{
    return statvfs64(path, (struct statvfs64 *)found); /* the same on 64-bit machines */
}

/* What is not followed is not overlooked. */

void *mmap64(void *at, size_t length, int protection, int flags, int descriptor, off64_t offset)
{
    REAL(mmap64);
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED) && kind(descriptor) == CONTENT)
        unsupported("a shared writable mapping");
    return real(at, length, protection, flags, descriptor, offset);
}

void *mmap(void *at, size_t length, int protection, int flags, int descriptor, off_t offset)
{
    return mmap64(at, length, protection, flags, descriptor, offset);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset)
{
    REAL(pwritev);
    if (kind(descriptor))
        unsupported("pwritev");
    return real(descriptor, parts, count, offset);
}

int posix_fallocate64(int descriptor, off64_t offset, off64_t length)
{
    REAL(posix_fallocate64);
    if (kind(descriptor))
        unsupported("posix_fallocate");
    return real(descriptor, offset, length);
}

int posix_fallocate(int descriptor, off_t offset, off_t length)
{
    return posix_fallocate64(descriptor, offset, length);
}

int renameat(int old_at, const char *from, int new_at, const char *to)
{
    REAL(renameat);
    if (inside(from) || inside(to))
        unsupported("renameat");
    return real(old_at, from, new_at, to);
}

int unlinkat(int at, const char *path, int flags)
{
    REAL(unlinkat);
    if (inside(path))
        unsupported("unlinkat");
    return real(at, path, flags);
}

int truncate64(const char *path, off64_t size)
{
    REAL(truncate64);
    if (inside(path))
        unsupported("truncate");
    return real(path, size);
}

int truncate(const char *path, off_t size) { return truncate64(path, size); }

int link(const char *from, const char *to)
{
    REAL(link);
    if (inside(from) || inside(to))
        unsupported("link");
    return real(from, to);
}
