/* Programs that follow pointers, for memories with addresses of 32 bits and of 64. Each gives a sum that doesn't depend
   on how wide pointers are. */

#define EXPORT __attribute__((visibility("default")))

typedef unsigned char byte;
typedef unsigned int u32;

static u32 seed;

static u32 random_number(void)
{
    seed = seed * 1664525 + 1013904223;
    return seed >> 8;
}

/* --- lists: 4096 links in random order, walked through --- */

struct link {
    struct link *next;
    u32 value;
};
static struct link links[4096];

EXPORT u32 list(u32 rounds)
{
    static u32 order[4096];
    seed = 1;
    for (u32 i = 0; i < 4096; i++)
        order[i] = i;
    for (u32 i = 4095; i > 0; i--) {
        u32 j = random_number() % (i + 1), kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    for (u32 i = 0; i < 4096; i++) {
        links[order[i]].next = &links[order[(i + 1) % 4096]];
        links[order[i]].value = i;
    }
    u32 sum = 0;
    struct link *at = &links[0];
    for (u32 i = 0; i < rounds * 4096; i++) {
        sum = sum * 31 + at->value;
        at = at->next;
    }
    return sum;
}

/* --- trees: insertion and search --- */

struct node {
    struct node *left, *right;
    u32 key, count;
};
static struct node nodes[2048];

static struct node *find(struct node **root, u32 key, u32 *used)
{
    while (*root) {
        if ((*root)->key == key)
            return *root;
        root = key < (*root)->key ? &(*root)->left : &(*root)->right;
    }
    if (*used == 2048)
        return 0;
    struct node *made = *root = &nodes[(*used)++];
    made->left = made->right = 0;
    made->key = key;
    made->count = 0;
    return made;
}

EXPORT u32 tree(u32 rounds)
{
    u32 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        struct node *root = 0;
        u32 used = 0;
        seed = round;
        for (u32 i = 0; i < 4096; i++) {
            struct node *found = find(&root, random_number() & 4095, &used);
            if (found)
                sum += ++found->count * found->key;
        }
    }
    return sum;
}

/* --- a table of hashes, whose entries hang on chains --- */

struct entry {
    struct entry *next;
    u32 key, value;
};
static struct entry entries[8192], *heads[1024];

EXPORT u32 hash(u32 rounds)
{
    u32 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        u32 used = 0;
        seed = round;
        for (u32 i = 0; i < 1024; i++)
            heads[i] = 0;
        for (u32 i = 0; i < 8192; i++) {
            u32 key = random_number() & 0xFFF;
            struct entry **head = &heads[key * 2654435761u >> 22], *at = *head;
            while (at && at->key != key)
                at = at->next;
            if (!at) {
                at = &entries[used++];
                at->next = *head;
                at->key = key;
                at->value = 0;
                *head = at;
            }
            sum += ++at->value ^ key;
        }
    }
    return sum;
}

/* --- sorting pointers by what they point to --- */

struct record {
    u32 key;
    byte name[12];
};
static struct record records[2048], *sorted[2048];

static void sort(struct record **low, struct record **high)
{
    while (high - low > 1) {
        u32 pivot = low[(high - low) / 2]->key;
        struct record **i = low, **j = high - 1;
        while (i <= j) {
            while ((*i)->key < pivot)
                i++;
            while ((*j)->key > pivot)
                j--;
            if (i <= j) {
                struct record *kept = *i;
                *i++ = *j;
                *j-- = kept;
            }
        }
        sort(low, j + 1);
        low = i;
    }
}

EXPORT u32 quicksort(u32 rounds)
{
    u32 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        seed = round;
        for (u32 i = 0; i < 2048; i++) {
            records[i].key = random_number();
            sorted[i] = &records[i];
        }
        sort(sorted, sorted + 2048);
        for (u32 i = 0; i < 2048; i += 64)
            sum = sum * 31 + sorted[i]->key;
    }
    return sum;
}

/* --- arrays and texts --- */

static double a[64][64], b[64][64], c[64][64];

EXPORT u32 multiply(u32 rounds)
{
    for (u32 i = 0; i < 64; i++)
        for (u32 j = 0; j < 64; j++)
            a[i][j] = i + j, b[i][j] = i ^ j;
    for (u32 round = 0; round < rounds; round++)
        for (u32 i = 0; i < 64; i++)
            for (u32 j = 0; j < 64; j++) {
                double sum = 0;
                for (u32 k = 0; k < 64; k++)
                    sum += a[i][k] * b[k][j];
                c[i][j] = sum;
            }
    double all = 0;
    for (u32 i = 0; i < 64; i++)
        all += c[i][i];
    return all;
}

static byte flags[65536];

EXPORT u32 sieve(u32 rounds)
{
    u32 count = 0;
    for (u32 round = 0; round < rounds; round++) {
        for (u32 i = 2; i < 65536; i++)
            flags[i] = 1;
        for (u32 i = 2; i < 256; i++)
            if (flags[i])
                for (u32 j = i * i; j < 65536; j += i)
                    flags[j] = 0;
        for (u32 i = 2; i < 65536; i++)
            count += flags[i];
    }
    return count;
}

static byte text[16384];

EXPORT u32 words(u32 rounds)
{
    u32 sum = 0;
    seed = 7;
    for (u32 i = 0; i < 16384; i++) {
        u32 letter = random_number() % 20;
        text[i] = letter < 4 ? ' ' : 'a' + letter;
    }
    for (u32 round = 0; round < rounds; round++) {
        const byte *at = text, *end = text + 16384;
        while (at < end) {
            u32 code = 5381;
            while (at < end && *at == ' ')
                at++;
            while (at < end && *at != ' ')
                code = code * 33 ^ *at++;
            sum += code;
        }
    }
    return sum;
}

/* --- calls through pointers: a small machine --- */

struct machine {
    const byte *code;
    u32 stack[16], *top;
};

static void push_one(struct machine *m) { *m->top++ = 1; }
static void add(struct machine *m) { m->top--; m->top[-1] += m->top[0]; }
static void twice(struct machine *m) { m->top[-1] *= 2; }
static void copy(struct machine *m) { m->top[0] = m->top[-1]; m->top++; }
static void (*const operations[])(struct machine *) = {push_one, add, twice, copy};

EXPORT u32 machine(u32 rounds)
{
    static const byte code[] = {0, 3, 1, 2, 3, 1, 0, 1, 3, 2, 1, 0, 1, 2, 255};
    u32 sum = 0;
    for (u32 round = 0; round < rounds; round++) {
        struct machine m;
        m.top = m.stack;
        for (m.code = code; *m.code != 255; m.code++)
            operations[*m.code](&m);
        sum += m.top[-1] + round;
    }
    return sum;
}
