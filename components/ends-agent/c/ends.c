// The ends-agent in C: ends in the way that the reading's source names. Without a C library and without generated
// bindings: names and flat signatures are those of the component model's canonical ABI. build.py compiles it.

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

IMPORT("wasi:logging/logging@0.1.0-draft", "log")
void log_line(u32 level, const char *context, u32 context_len, const char *message, u32 message_len);
IMPORT("wasi:cli/exit@0.2.12", "exit") void leave(u32 failed);
IMPORT("wasi:cli/exit@0.2.12", "exit-with-code") void leave_with_code(u32 code);
IMPORT("wasi:cli/stderr@0.2.12", "get-stderr") u32 get_stderr(void);
IMPORT("wasi:io/streams@0.2.12", "[method]output-stream.blocking-write-and-flush")
void write_and_flush(u32 stream, const char *contents, u32 len, void *result);
IMPORT("wasi:clocks/monotonic-clock@0.2.12", "now") u64 now(void);
IMPORT("wasi:clocks/monotonic-clock@0.2.12", "subscribe-duration") u32 subscribe_duration(u64 nanoseconds);
IMPORT("wasi:io/poll@0.2.12", "[method]pollable.block") void block(u32 pollable);
IMPORT("wasi:io/poll@0.2.12", "poll") void poll(const u32 *pollables, u32 count, void *result);

#define HOUR_NS 3600000000000ull
#define ERROR 4
#define PAGE 65536

static const char STUCK[] = "Assertion failed: the valve is stuck (c/ends.c)\n";

extern u8 __heap_base;
static u8 *top;

// Gives memory and never takes it back: the agent lives for a few calls.
EXPORT("cabi_realloc") void *take(void *old, u32 old_size, u32 align, u32 size) {
    if (!top) top = &__heap_base;
    u8 *at = (u8 *)(((u32)top + align - 1) / align * align);
    top = at + size;
    u32 have = (u32)__builtin_wasm_memory_size(0) * PAGE;
    if ((u32)top > have && __builtin_wasm_memory_grow(0, ((u32)top - have) / PAGE + 1) == (unsigned long)-1)
        __builtin_trap();
    for (u32 i = 0; i < old_size; i++) at[i] = ((u8 *)old)[i];
    return at;
}

static int is(const char *text, u32 len, const char *name) {
    u32 i = 0;
    while (i < len && name[i] == text[i]) i++;
    return i == len && !name[i];
}

static void spin(void) {
    volatile u32 turns = 0;
    for (;;) turns++;
}

// Keeps nothing in memory, so that the engine's stack ends before the one that the compiler keeps there.
#pragma clang diagnostic ignored "-Winfinite-recursion"
__attribute__((noinline)) static u32 descend(u32 depth) {
    u32 deeper = descend(depth + 1);
    __asm__ volatile("" : "+r"(deeper));
    return deeper + depth;
}

static void hoard(void) {
    for (;;) take(0, 0, 8, PAGE);
}

static void hold_too_many(void) {
    for (;;) subscribe_duration(HOUR_NS);
}

static void divide(void) {
    volatile u32 zero = 0;
    u32 one = 1;
    // Not defined by the language; written as an instruction, WebAssembly defines that the engine stops the guest.
    __asm__ volatile("local.get %0\n local.get %1\n i32.div_u\n drop" : : "r"(one), "r"(zero));
}

static void end(const char *how, u32 len, float value) {
    u32 result[4];
    if (is(how, len, "calls"))
        for (u32 i = 0; i < (u32)value; i++) now();
    else if (is(how, len, "panic")) {
        write_and_flush(get_stderr(), STUCK, sizeof STUCK - 1, result);
        __builtin_trap();
    } else if (is(how, len, "abort"))
        __builtin_trap();
    else if (is(how, len, "log-and-abort")) {
        log_line(ERROR, "ends", 4, "the valve is stuck", 18);
        __builtin_trap();
    } else if (is(how, len, "loop"))
        spin();
    else if (is(how, len, "sleep"))
        block(subscribe_duration(HOUR_NS));
    else if (is(how, len, "poll")) {
        u32 never = subscribe_duration(HOUR_NS);
        poll(&never, 1, result);
    } else if (is(how, len, "memory"))
        hoard();
    else if (is(how, len, "stack"))
        descend(1);
    else if (is(how, len, "out-of-bounds"))
        *(volatile u32 *)0xfffffff0;
    else if (is(how, len, "divide"))
        divide();
    else if (is(how, len, "exit"))
        leave(0);
    else if (is(how, len, "exit-with-code"))
        leave_with_code((u32)value);
    else if (is(how, len, "host-error"))
        hold_too_many();
}

struct text {
    const char *at;
    u32 len;
};

EXPORT("syuthd:agent-mesh/sensor-handler#handle-data")
struct text *handle_data(const char *how, u32 len, float value, u64 timestamp) {
    static struct text answer;
    (void)timestamp;
    answer.at = "alive";
    answer.len = 5;
    if (is(how, len, "answer")) {
        answer.len = (u32)value;
        char *at = take(0, 0, 1, answer.len);
        for (u32 i = 0; i < answer.len; i++) at[i] = 'x';
        answer.at = at;
        return &answer;
    }
    end(how, len, value);
    return &answer;
}
