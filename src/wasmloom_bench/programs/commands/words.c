/* Makes up words, counts how often each occurs in a hash table, sorts them, and prints the most frequent one:
   words [NUMBER] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    char letters[8];
    unsigned count;
};

enum { PLACES = 1 << 16 };
static struct word table[PLACES];

static unsigned state = 1;

static unsigned below(unsigned limit)
{
    state = state * 1664525 + 1013904223;
    return (state >> 8) % limit;
}

static int by_count(const void *one, const void *other)
{
    const struct word *a = one, *b = other;
    if (a->count != b->count)
        return a->count < b->count ? 1 : -1;
    return strcmp(a->letters, b->letters);
}

int main(int count, char **arguments)
{
    unsigned number = count > 1 ? (unsigned)atoi(arguments[1]) : 1000, different = 0;
    for (unsigned i = 0; i < number; i++) {
        char letters[8] = "";
        unsigned length = 1 + below(3), hash = 5381;
        for (unsigned j = 0; j < length; j++) {
            letters[j] = (char)('a' + below(26));
            hash = hash * 33 + (unsigned char)letters[j];
        }
        unsigned place = hash % PLACES;
        while (table[place].count && strcmp(table[place].letters, letters))
            place = (place + 1) % PLACES;
        if (!table[place].count++) {
            strcpy(table[place].letters, letters);
            different++;
        }
    }
    qsort(table, PLACES, sizeof table[0], by_count);
    printf("%u different words\n", different);
    return 0;
}
