/* Counts the words of text files and prints the most frequent ones, by count and then by word.

   usage: wordcount [-n COUNT] FILE-OR-DIRECTORY...

   A directory stands for the files in it (not deeper). Exit status: 0, or 1 when something could not be read, 2 for a
   wrong usage. */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct word {
    char *text;
    unsigned long count;
};

static struct word *slots;
static size_t capacity, used;
static unsigned long total_words, total_lines, total_bytes;

static void *need(void *memory) {
    if (!memory) {
        fprintf(stderr, "wordcount: out of memory\n");
        exit(1);
    }
    return memory;
}

static size_t hash(const char *text, size_t length) {
    size_t value = 2166136261u;
    for (size_t i = 0; i < length; i++) value = (value ^ (unsigned char)text[i]) * 16777619u;
    return value;
}

/* The slot of a word: where it is, or where it belongs. */
static struct word *find(const char *text, size_t length) {
    size_t i = hash(text, length) & (capacity - 1);
    while (slots[i].text && (strlen(slots[i].text) != length || memcmp(slots[i].text, text, length)))
        i = (i + 1) & (capacity - 1);
    return &slots[i];
}

static void grow(void) {
    struct word *old = slots;
    size_t old_capacity = capacity;
    capacity = capacity ? capacity * 2 : 64;
    slots = need(calloc(capacity, sizeof *slots));
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].text) *find(old[i].text, strlen(old[i].text)) = old[i];
    free(old);
}

static void add(const char *text, size_t length) {
    if ((used + 1) * 4 > capacity * 3) grow();
    struct word *word = find(text, length);
    if (!word->text) {
        word->text = need(malloc(length + 1));
        memcpy(word->text, text, length);
        word->text[length] = 0;
        used++;
    }
    word->count++;
    total_words++;
}

static int count_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        return 1;
    }
    char word[256];
    size_t length = 0;
    int c;
    while ((c = getc(file)) != EOF) {
        total_bytes++;
        total_lines += c == '\n';
        if (isalpha(c) && length < sizeof word) {
            word[length++] = (char)tolower(c);
        } else if (length) {
            add(word, length);
            length = 0;
        }
    }
    if (length) add(word, length);
    int failed = ferror(file);
    fclose(file);
    return failed != 0;
}

static int count_path(const char *path) {
    struct stat status;
    if (stat(path, &status) || !S_ISDIR(status.st_mode)) return count_file(path);
    DIR *directory = opendir(path);
    if (!directory) {
        fprintf(stderr, "wordcount: %s: %s\n", path, strerror(errno));
        return 1;
    }
    int failed = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        char full[1024];
        if (entry->d_name[0] == '.') continue;
        snprintf(full, sizeof full, "%s/%s", path, entry->d_name);
        if (!stat(full, &status) && S_ISREG(status.st_mode)) failed |= count_file(full);
    }
    closedir(directory);
    return failed;
}

static int by_count(const void *a, const void *b) {
    const struct word *left = a, *right = b;
    if (left->count != right->count) return left->count < right->count ? 1 : -1;
    return strcmp(left->text, right->text);
}

int main(int argc, char **argv) {
    unsigned long shown = 10;
    int first = 1;
    if (argc > 2 && !strcmp(argv[1], "-n")) {
        shown = strtoul(argv[2], NULL, 10);
        first = 3;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: wordcount [-n COUNT] FILE-OR-DIRECTORY...\n");
        return 2;
    }
    int failed = 0;
    for (int i = first; i < argc; i++) failed |= count_path(argv[i]);
    size_t count = 0;
    for (size_t i = 0; i < capacity; i++)
        if (slots[i].text) slots[count++] = slots[i];
    if (count) qsort(slots, count, sizeof *slots, by_count);
    printf("%lu lines, %lu words (%zu different), %lu bytes\n", total_lines, total_words, count, total_bytes);
    for (size_t i = 0; i < count && i < shown; i++) printf("%7lu %s\n", slots[i].count, slots[i].text);
    return failed;
}
