/* A calculator with variables: reads lines from standard input and prints what they are worth.

   name = expression     sets a variable
   expression            prints its value
   list                  prints all variables in order, and what the program holds in memory
   repeat N text         builds a long string and prints its length and a checksum
   fail CODE             ends with that exit status

   Variables live in a balanced (AVL) tree of allocated nodes, tokens in growing strings: it is a test of malloc and
   printf more than of arithmetic. Exit status: 0, what `fail` says, or 1 when a line was wrong. */

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- strings that grow --- */

struct text {
    char *start;
    size_t length, room;
};

static unsigned long allocations;

static void reserve(struct text *text, size_t more) {
    if (text->length + more + 1 <= text->room) return;
    text->room = (text->length + more + 1) * 2;
    text->start = realloc(text->start, text->room);
    allocations++;
    if (!text->start) abort();
}

static void append(struct text *text, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    reserve(text, (size_t)length);
    vsnprintf(text->start + text->length, (size_t)length + 1, format, again);
    text->length += (size_t)length;
    va_end(again);
    va_end(arguments);
}

static void clear(struct text *text) {
    free(text->start);
    memset(text, 0, sizeof *text);
}

/* --- variables --- */

struct node {
    struct node *left, *right;
    int height;
    double value;
    char *name;
};

static struct node *root;

static int height(const struct node *node) { return node ? node->height : 0; }

static void update(struct node *node) {
    int left = height(node->left), right = height(node->right);
    node->height = (left > right ? left : right) + 1;
}

static struct node *rotate_right(struct node *node) {
    struct node *top = node->left;
    node->left = top->right;
    top->right = node;
    update(node);
    update(top);
    return top;
}

static struct node *rotate_left(struct node *node) {
    struct node *top = node->right;
    node->right = top->left;
    top->left = node;
    update(node);
    update(top);
    return top;
}

static struct node *balance(struct node *node) {
    update(node);
    int lean = height(node->left) - height(node->right);
    if (lean > 1) {
        if (height(node->left->left) < height(node->left->right)) node->left = rotate_left(node->left);
        return rotate_right(node);
    }
    if (lean < -1) {
        if (height(node->right->right) < height(node->right->left)) node->right = rotate_right(node->right);
        return rotate_left(node);
    }
    return node;
}

static struct node *set(struct node *node, const char *name, double value) {
    if (!node) {
        node = calloc(1, sizeof *node);
        if (!node) abort();
        node->name = strdup(name);
        node->value = value;
        node->height = 1;
        allocations += 2;
        return node;
    }
    int order = strcmp(name, node->name);
    if (order == 0) node->value = value;
    else if (order < 0) node->left = set(node->left, name, value);
    else node->right = set(node->right, name, value);
    return balance(node);
}

static const struct node *get(const char *name) {
    const struct node *node = root;
    int order;
    while (node && (order = strcmp(name, node->name))) node = order < 0 ? node->left : node->right;
    return node;
}

static unsigned list(const struct node *node, int depth) {
    if (!node) return 0;
    unsigned count = list(node->left, depth + 1);
    printf("%*s%-8s = %14.6f |%-12g|%+e|%a\n", depth, "", node->name, node->value, node->value, node->value, node->value);
    return count + 1 + list(node->right, depth + 1);
}

static void drop(struct node *node) {
    if (!node) return;
    drop(node->left);
    drop(node->right);
    free(node->name);
    free(node);
}

/* --- expressions --- */

static const char *at;
static struct text problem;
static int wrong;

static double expression(void);

static void complain(const char *what) {
    if (!problem.length) append(&problem, "%s before \"%.10s\"", what, at);
}

static void skip(void) {
    while (isspace((unsigned char)*at)) at++;
}

static double atom(void) {
    skip();
    if (*at == '(') {
        at++;
        double value = expression();
        skip();
        if (*at == ')') at++;
        else complain("no )");
        return value;
    }
    if (*at == '-') {
        at++;
        return -atom();
    }
    if (isdigit((unsigned char)*at) || *at == '.') {
        char *end;
        double value = strtod(at, &end);
        at = end;
        return value;
    }
    if (isalpha((unsigned char)*at)) {
        struct text name = {0};
        while (isalnum((unsigned char)*at)) append(&name, "%c", *at++);
        skip();
        double value = 0;
        if (*at == '(' && !strcmp(name.start, "sqrt")) {
            value = sqrt(atom());
        } else {
            const struct node *found = get(name.start);
            if (found) value = found->value;
            else complain("unknown name");
        }
        clear(&name);
        return value;
    }
    complain("no value");
    return 0;
}

static double product(void) {
    double value = atom();
    for (;;) {
        skip();
        if (*at == '*') at++, value *= atom();
        else if (*at == '/') at++, value /= atom();
        else return value;
    }
}

static double expression(void) {
    double value = product();
    for (;;) {
        skip();
        if (*at == '+') at++, value += product();
        else if (*at == '-') at++, value -= product();
        else return value;
    }
}

static void repeat(const char *rest) {
    char *word;
    unsigned long times = strtoul(rest, &word, 10);
    while (*word == ' ') word++;
    struct text all = {0};
    for (unsigned long i = 0; i < times; i++) append(&all, "%s%lu:%05.2f;", word, i, (double)i / 7);
    unsigned checksum = 0;
    for (size_t i = 0; i < all.length; i++) checksum = checksum * 31 + (unsigned char)all.start[i];
    printf("%zu characters, checksum %08x, last \"%.12s\"\n", all.length, checksum,
           all.length > 12 ? all.start + all.length - 12 : "");
    clear(&all);
}

static void run(char *line, int number) {
    char *equals = strchr(line, '=');
    at = line;
    skip();
    if (!*at) return;
    if (!strcmp(line, "list")) {
        unsigned count = list(root, 0);
        printf("%u variables, height %d, %lu allocations\n", count, height(root), allocations);
    } else if (!strncmp(line, "repeat ", 7)) {
        repeat(line + 7);
    } else if (!strncmp(line, "fail ", 5)) {
        printf("leaving\n");
        exit(atoi(line + 5));
    } else {
        if (equals) at = equals + 1;
        double value = expression();
        skip();
        if (*at) complain("something left over");
        if (problem.length) {
            fprintf(stderr, "line %d: %s\n", number, problem.start);
            clear(&problem);
            wrong = 1;
        } else if (equals) {
            char *end = equals;
            while (end > line && isspace((unsigned char)end[-1])) end--;
            *end = 0;
            while (isspace((unsigned char)*line)) line++;
            root = set(root, line, value);
        } else {
            printf("%d: %.10g\n", number, value);
        }
    }
}

int main(void) {
    struct text line = {0};
    int number = 0, c;
    do {
        c = getchar();
        if (c != '\n' && c != EOF) {
            append(&line, "%c", c);
        } else if (line.length || c == '\n') {
            number++;
            if (line.length) run(line.start, number);
            line.length = 0;
            if (line.start) *line.start = 0;
        }
    } while (c != EOF);
    clear(&line);
    drop(root);
    return wrong;
}
