/* Counts the primes below a number, by crossing out: primes [LIMIT] */
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments)
{
    unsigned limit = count > 1 ? (unsigned)atoi(arguments[1]) : 1000;
    unsigned char *composite = calloc(limit + 1, 1);
    unsigned found = 0;
    if (!composite)
        return 1;
    for (unsigned i = 2; i < limit; i++) {
        if (composite[i])
            continue;
        found++;
        for (unsigned long long j = (unsigned long long)i * i; j < limit; j += i)
            composite[j] = 1;
    }
    printf("%u primes\n", found);
    free(composite);
    return 0;
}
