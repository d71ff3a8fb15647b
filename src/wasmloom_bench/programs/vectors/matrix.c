/* The product of two matrices of floats, left to the compiler's vectoriser. */

#include "program.h"

enum { SIZE = 64 };

static float factors[2][SIZE][SIZE], product[SIZE][SIZE];

EXPORTED void *matrix_input(void) { return factors; }
EXPORTED void *matrix_output(void) { return product; }

EXPORTED void matrix(int rounds)
{
    while (rounds--)
        for (int i = 0; i < SIZE; i++) {
            float row[SIZE] = {0};
            for (int k = 0; k < SIZE; k++)
                for (int j = 0; j < SIZE; j++)
                    row[j] += factors[0][i][k] * factors[1][k][j];
            for (int j = 0; j < SIZE; j++)
                product[i][j] = row[j];
        }
}
