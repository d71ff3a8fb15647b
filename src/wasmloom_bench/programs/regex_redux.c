/* A small regular expression engine, and the counting part of the regex-redux task: how often do nine patterns occur?

   A pattern is alternatives of letters, classes like [acg] and the wildcard `.`. It becomes an automaton with one bit per letter
   position (Glushkov's construction without loops), simulated with one word per step, which finds the leftmost match; matches
   don't overlap. */

typedef unsigned char byte;
typedef unsigned long long bits;

enum { LARGEST = 1 << 16 };

static byte input[LARGEST];

typedef struct {
    bits matching[256]; /* positions that accept a letter */
    bits first, last;   /* positions that start, and that end, an alternative */
} Automaton;

static Automaton automaton;

static void compile(const char *pattern)
{
    for (int i = 0; i < 256; i++)
        automaton.matching[i] = 0;
    automaton.first = automaton.last = 0;
    bits position = 1;
    int starting = 1;
    for (const char *p = pattern; *p; p++) {
        if (*p == '|') {
            automaton.last |= position >> 1;
            starting = 1;
            continue;
        }
        if (starting)
            automaton.first |= position;
        starting = 0;
        if (*p == '[') {
            for (p++; *p != ']'; p++)
                automaton.matching[(byte)*p] |= position;
        } else if (*p == '.') {
            for (int i = 0; i < 256; i++)
                if (i != '\n')
                    automaton.matching[i] |= position;
        } else {
            automaton.matching[(byte)*p] |= position;
        }
        position <<= 1;
    }
    automaton.last |= position >> 1;
}

static int count(int length)
{
    int found = 0;
    bits active = 0;
    for (int i = 0; i < length; i++) {
        /* a position is followed by the next one, except at the end of an alternative */
        active = ((active & ~automaton.last) << 1 | automaton.first) & automaton.matching[input[i]];
        if (active & automaton.last) {
            found++;
            active = 0;
        }
    }
    return found;
}

static const char *const variants[] = {
    "agggtaaa|tttaccct",           "[cgt]gggtaaa|tttaccc[acg]", "a[act]ggtaaa|tttacc[agt]t",
    "ag[act]gtaaa|tttac[agt]ct",   "agg[act]taaa|ttta[agt]cct", "aggg[acg]aaa|ttt[cgt]ccct",
    "agggt[cgt]aa|tt[acg]accct",   "agggta[cgt]a|t[acg]taccct", "agggtaa[cgt]|[acg]ttaccct",
};

__attribute__((visibility("default"))) byte *regex_input(void) { return input; }

/* The counts of all variants, as one number in base 1000. */
__attribute__((visibility("default"))) unsigned long long regex_redux(int length)
{
    unsigned long long sum = 0;
    for (unsigned i = 0; i < sizeof variants / sizeof *variants; i++) {
        compile(variants[i]);
        sum = sum * 1000 + count(length);
    }
    return sum;
}
