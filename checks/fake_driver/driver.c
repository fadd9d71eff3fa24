// A libcuda.so.1 that records: memory is the host's, copies and memsets happen, kernels do not, but
// take a millisecond of their stream's time.
//
// Every call writes a line to the file FAKE_DRIVER_LOG names. FAKE_DRIVER holds settings, parted by
// spaces: `cuInit=100` makes that call fail so, `capability=75`, `devices=0`, `version=12080`,
// `free=1000`, `layout=8,8,4` (sizes of a kernel's parameters where a launch gives pointers only),
// `late=1` (see streams.h). The calls that are not here are generated beside it: they record and
// succeed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef int Result;
typedef uintptr_t Handle;
enum { NOT_READY = 600, INVALID_HANDLE = 400, UNSUPPORTED_IN_CAPTURE = 900, INVALIDATED = 901 };
enum { PAGE = 4096 };

static const char* setting(const char* name) {  // the text after `name=`, or NULL
    const char* at = getenv("FAKE_DRIVER");
    size_t length = strlen(name);
    while (at && *at) {
        if (!strncmp(at, name, length) && at[length] == '=') return at + length + 1;
        at = strchr(at, ' ');
        if (at) at++;
    }
    return NULL;
}

static long number(const char* name, long otherwise) {
    const char* text = setting(name);
    return text ? atol(text) : otherwise;
}

static void record(const char* format, ...) {
    static FILE* file;
    const char* path = getenv("FAKE_DRIVER_LOG");
    if (!file && path) file = fopen(path, "a");
    if (!file) return;
    va_list rest;
    va_start(rest, format);
    vfprintf(file, format, rest);
    va_end(rest);
    fputc('\n', file);
    fflush(file);
}

Result fake_entered(const char* name) {  // what a generated call does
    record("%s", name);
    return number(name, 0);
}

#define ENTER(...)                                      \
    do {                                                \
        record(__VA_ARGS__);                            \
        if (number(__func__, 0)) return number(__func__, 0); \
    } while (0)

static Handle fresh(void) {
    static Handle next = 0x10000;
    return next += 0x100;
}

void fake_mark(const char* text) { record("-- %s", text); }

// ---- the card and its context

static Handle current;
enum { PRIMARY = 0xC0DE };

Result cuInit(unsigned flags) { ENTER("cuInit"); return 0; }
Result cuDriverGetVersion(int* v) { *v = number("version", 13000); return 0; }
Result cuDeviceGetCount(int* n) { *n = number("devices", 1); return 0; }
Result cuDeviceGet(int* d, int ordinal) { *d = ordinal; return 0; }
Result cuDeviceGetName(char* s, int n, int d) { snprintf(s, n, "Recorded H200"); return 0; }
Result cuDeviceTotalMem_v2(size_t* b, int d) { *b = 141ull << 30; return 0; }

Result cuDeviceComputeCapability(int* major, int* minor, int d) {
    int both = number("capability", 90);
    *major = both / 10, *minor = both % 10;
    return 0;
}

Result cuDeviceGetAttribute(int* v, int a, int d) {
    switch (a) {
        case 75: *v = number("capability", 90) / 10; break;
        case 76: *v = number("capability", 90) % 10; break;
        case 10: *v = 32; break;  // threads of a warp
        case 13: *v = 1980000; break;  // kHz, and of the memory
        case 36: *v = 3201000; break;
        case 37: *v = 6144; break;  // bits of the bus
        case 38: *v = 50 << 20; break;  // level 2
        case 39: *v = 2048; break;  // threads of a multiprocessor, and registers
        case 82: *v = 65536; break;
        case 16: *v = 132; break;
        case 97: *v = number("shared_limit", 232448); break;
        default: *v = 1;
    }
    return 0;
}

Result cuDevicePrimaryCtxRetain(Handle* c, int d) { ENTER("%s", __func__); *c = PRIMARY; return 0; }
Result cuDevicePrimaryCtxGetState(int d, unsigned* flags, int* active) {
    if (flags) *flags = 0;
    if (active) *active = 1;
    return 0;
}
Result cuCtxPushCurrent_v2(Handle c) { ENTER("%s", __func__); current = c; return 0; }
Result cuCtxPopCurrent_v2(Handle* c) {
    ENTER("%s", __func__);
    if (c) *c = current;
    current = 0;
    return 0;
}
Result cuCtxGetCurrent(Handle* c) { *c = current; return 0; }
Result cuCtxSetCurrent(Handle c) { current = c; return 0; }
Result cuCtxGetDevice(int* d) { *d = 0; return 0; }
Result cuCtxGetApiVersion(Handle c, unsigned* v) { *v = 13000; return 0; }

#include "streams.h"

// ---- memory

Result cuMemAlloc_v2(Handle* p, size_t n) {
    record("cuMemAlloc_v2 bytes=%zu", n);
    if (capturing) return broken = 1, UNSUPPORTED_IN_CAPTURE;
    if (n > (size_t)number("free", 1 << 30)) return 2;
    static Handle next = 0x100000000000;  // the same addresses in every run, with holes between
    size_t whole = n + PAGE;
    size_t* memory = mmap((void*)next, whole, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory == MAP_FAILED) return 2;
    next += (whole + 2 * PAGE) / PAGE * PAGE;
    *memory = whole;
    *p = (Handle)memory + PAGE;
    memset((void*)*p, 0xFF, n);
    return 0;
}
Result cuMemFree_v2(Handle p) {  // waits for all work, as the driver's does
    ENTER("cuMemFree_v2");
    finish(0, waiting);
    munmap((void*)(p - PAGE), *(size_t*)(p - PAGE));
    return 0;
}
Result cuMemGetInfo_v2(size_t* unused, size_t* total) {
    *unused = number("free", 1 << 30), *total = 141ull << 30;
    return 0;
}
Result cuMemHostAlloc(void** p, size_t n, unsigned f) { *p = malloc(n); return *p ? 0 : 2; }
Result cuMemFreeHost(void* p) { free(p); return 0; }

static Result moved(const char* name, Node node) {
    snprintf(node.text + strlen(node.text), 200, " bytes=%zu", node.size);
    int failure = number(name, 0);
    if (failure) return failure;
    record("%s", node.text);
    return perform(&node), 0;
}
Result cuMemcpyHtoD_v2(Handle d, const void* s, size_t n) {
    return moved(__func__, (Node){COPY, d, (Handle)s, n, "cuMemcpyHtoD_v2"});
}
Result cuMemcpyDtoH_v2(void* d, Handle s, size_t n) {
    return moved(__func__, (Node){COPY, (Handle)d, s, n, "cuMemcpyDtoH_v2"});
}

static Result moved_on(const char* name, Handle stream, Node node) {
    snprintf(node.text, sizeof node.text, "%s bytes=%zu stream=%lx", name, node.size,
             (long)stream);
    int failure = number(name, 0);
    if (!failure) enqueue(stream, node);
    return failure;
}
Result cuMemsetD8Async(Handle d, unsigned char v, size_t n, Handle s) {
    return moved_on(__func__, s, (Node){SET, d, v, n});
}
Result cuMemcpyHtoDAsync_v2(Handle d, const void* h, size_t n, Handle s) {
    return moved_on(__func__, s, (Node){COPY, d, (Handle)h, n});
}
Result cuMemcpyDtoHAsync_v2(void* h, Handle d, size_t n, Handle s) {
    return moved_on(__func__, s, (Node){COPY, (Handle)h, d, n});
}

// ---- modules and launches; a function's handle is its name

Result cuModuleLoadDataEx(Handle* m, const void* image, unsigned n, void* o, void* v) {
    *m = fresh();
    ENTER("cuModuleLoadDataEx first=%02x", *(const unsigned char*)image);
    return 0;
}
Result cuModuleLoadData(Handle* m, const void* image) {
    *m = fresh();
    ENTER("cuModuleLoadData first=%02x", *(const unsigned char*)image);
    return 0;
}
Result cuModuleGetFunction(Handle* f, Handle m, const char* name) {
    ENTER("cuModuleGetFunction %s", name);
    *f = (Handle)strdup(name);
    return 0;
}
Result cuFuncGetAttribute(int* v, int a, Handle f) {
    *v = a == 0 ? number("block_limit", 1024) : a == 1 ? number("static", 0) : 0;
    return 0;
}
Result cuFuncSetAttribute(Handle f, int a, int v) {
    ENTER("cuFuncSetAttribute %s %d %d", (char*)f, a, v);
    return 0;
}

static int hexadecimal(char* out, const unsigned char* bytes, size_t n) {
    for (size_t i = 0; i < n && i < 500; i++) sprintf(out + 2 * i, "%02x", bytes[i]);
    return 2 * (int)n;
}

static int parameters(char* out, void** pointers, void** extra) {
    int at = 0;
    if (extra && extra[0] == (void*)1) return hexadecimal(out, extra[1], *(size_t*)extra[3]);
    for (const char* size = setting("layout"); pointers && size && *size; pointers++) {
        at += hexadecimal(out + at, *pointers, atoi(size));
        size += strspn(size, "0123456789");
        if (*size++ != ',') break;
    }
    return at;
}

Result cuLaunchKernel(Handle f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared, Handle s, void** pointers, void** extra) {
    Node node = {0};
    char bytes[1200] = "";
    parameters(bytes, pointers, extra);
    snprintf(node.text, sizeof node.text, "cuLaunchKernel %s grid=%u,%u,%u block=%u,%u,%u "
             "shared=%u stream=%lx args=%s", (char*)f, gx, gy, gz, bx, by, bz, shared, (long)s,
             bytes);
    int failure = number("cuLaunchKernel", 0);
    if (!failure) enqueue(s, node);
    return failure;
}

typedef struct { int id, gap; unsigned value[16]; } Attribute;
typedef struct {
    unsigned grid[3], block[3], shared;
    Handle stream;
    Attribute* attributes;
    unsigned count;
} Config;

Result cuLaunchKernelEx(const Config* c, Handle f, void** pointers, void** extra) {
    Node node = {0};
    char bytes[1200] = "";
    parameters(bytes, pointers, extra);
    const Attribute* a = c->attributes;
    snprintf(node.text, sizeof node.text, "cuLaunchKernelEx %s grid=%u,%u,%u block=%u,%u,%u "
             "shared=%u stream=%lx attribute=%d:%u,%u,%u args=%s", (char*)f, c->grid[0],
             c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared,
             (long)c->stream, c->count ? a->id : -1, c->count ? a->value[0] : 0,
             c->count ? a->value[1] : 0, c->count ? a->value[2] : 0, bytes);
    int failure = number("cuLaunchKernelEx", 0);
    if (!failure) enqueue(c->stream, node);
    return failure;
}

// ---- words for errors, and how cuda.bindings finds the calls

Result cuGetErrorString(int code, const char** text) {
    *text = code == 2 ? "out of memory" : code == 100 ? "no CUDA-capable device is detected"
          : code == 700 ? "an illegal memory access was encountered"
          : code == INVALIDATED ? "operation failed due to a previous error during capture"
          : code == UNSUPPORTED_IN_CAPTURE ? "operation not permitted when stream is capturing"
          : code == 701 ? "too many resources requested for launch" : "recorded failure";
    return 0;
}

Result cuGetProcAddress_v2(const char* name, void** p, int version, uint64_t flags, int* status) {
    static void* self;
    char full[256];
    if (!self) self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    *p = NULL;
    for (int v = 4; v > 0 && !*p; v--) {
        snprintf(full, sizeof full, v > 1 ? "%s_v%d" : "%s", name, v);
        *p = dlsym(self ? self : RTLD_DEFAULT, full);
    }
    if (!*p) {
        snprintf(full, sizeof full, "%sWithFlags", name);
        *p = dlsym(self ? self : RTLD_DEFAULT, full);
    }
    if (status) *status = *p ? 0 : 1;
    return *p ? 0 : 500;
}
Result cuGetProcAddress(const char* name, void** p, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, p, version, flags, NULL);
}
