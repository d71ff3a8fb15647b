// C++ as compilers translate it, with destructors, `catch` and `throw;` between functions; and all that it needs of a
// C++ library: every exception is an int.

__asm__(".tagtype __cpp_exception i32\n.globl __cpp_exception\n__cpp_exception:\n");

extern "C" {
struct {
    unsigned index;
    void *table;
    unsigned selector;
} __wasm_lpad_context;
static char memory[4096];
static unsigned used;
static void *current;
void *_ZTIi;

void *__cxa_allocate_exception(unsigned long) { return memory + (used = (used + 16) % 4096); }
void __cxa_throw(void *thrown, void *, void (*)(void *)) { __builtin_wasm_throw(0, thrown); }
void __cxa_rethrow() { __builtin_wasm_throw(0, current); }
void *__cxa_begin_catch(void *thrown) { return thrown; }
void __cxa_end_catch() {}
int __gxx_wasm_personality_v0() { return 0; }
void _ZSt9terminatev() { __builtin_trap(); }
int _Unwind_CallPersonality(void *thrown) {
    current = thrown;
    __wasm_lpad_context.selector = 1;
    return 7;
}
}

static volatile int destroyed;

struct Noted {
    int digit;
    explicit Noted(int digit) : digit(digit) {}
    ~Noted() { destroyed = destroyed * 10 + digit; }
};

__attribute__((noinline)) static int thrower(int n) {
    Noted noted(1);
    if (n % 3 == 0)
        throw n;
    if (n % 7 == 0)
        throw n * 2;
    return n;
}

__attribute__((noinline)) static int middle(int n) {
    Noted noted(2);
    try {
        Noted inner(3);
        return thrower(n) + 1;
    } catch (int caught) {
        Noted other(4);
        if (caught & 1)
            throw;
        return caught + 1000;
    }
}

extern "C" __attribute__((export_name("run"))) int run(int count) {
    int sum = 0;
    for (int i = 0; i < count; i++) {
        destroyed = 0;
        try {
            Noted noted(5);
            sum += middle(i);
        } catch (int caught) {
            sum ^= caught * 31;
        }
        sum = sum * 17 + destroyed;
    }
    return sum;
}
