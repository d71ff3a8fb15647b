/* Computes: planets that attract each other, the Mandelbrot set, SHA-256, and a sieve of primes.

   usage: compute [SCALE]

   Only operations that IEEE 754 defines to the bit are used, so that the output is the same everywhere (compile with
   -ffp-contract=off where the compiler would fuse multiplication and addition). */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- n bodies: a star and four planets, in units of years, astronomical units and solar masses --- */

#define BODIES 5

struct body {
    double position[3], velocity[3], mass;
};

static void start_bodies(struct body *bodies) {
    static const double orbit[BODIES] = {0, 0.7, 1.0, 5.2, 9.6};
    static const double mass[BODIES] = {1, 2.4e-6, 3e-6, 9.5e-4, 2.9e-4};
    for (int i = 0; i < BODIES; i++) {
        memset(&bodies[i], 0, sizeof bodies[i]);
        bodies[i].mass = mass[i];
        bodies[i].position[i % 3] = orbit[i];
        if (i) {
            bodies[i].velocity[(i + 1) % 3] = sqrt(39.47841760435743 / orbit[i]);
            bodies[i].velocity[(i + 2) % 3] = 0.01 * i;
        }
    }
}

static void advance(struct body *bodies, double step) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            double d[3], square = 0;
            for (int k = 0; k < 3; k++) {
                d[k] = bodies[i].position[k] - bodies[j].position[k];
                square += d[k] * d[k];
            }
            double pull = 39.47841760435743 * step / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                bodies[i].velocity[k] -= d[k] * bodies[j].mass * pull;
                bodies[j].velocity[k] += d[k] * bodies[i].mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++) bodies[i].position[k] += step * bodies[i].velocity[k];
}

static double energy(const struct body *bodies) {
    double sum = 0;
    for (int i = 0; i < BODIES; i++) {
        double speed = 0;
        for (int k = 0; k < 3; k++) speed += bodies[i].velocity[k] * bodies[i].velocity[k];
        sum += 0.5 * bodies[i].mass * speed;
        for (int j = i + 1; j < BODIES; j++) {
            double square = 0;
            for (int k = 0; k < 3; k++) {
                double d = bodies[i].position[k] - bodies[j].position[k];
                square += d * d;
            }
            sum -= 39.47841760435743 * bodies[i].mass * bodies[j].mass / sqrt(square);
        }
    }
    return sum;
}

/* --- the Mandelbrot set as text --- */

static unsigned long mandelbrot(int width, int height, int limit) {
    static const char shades[] = " .:-=+*#%@";
    unsigned long iterations = 0;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            float cr = -2.2f + 3.2f * (float)x / (float)width, ci = -1.2f + 2.4f * (float)y / (float)height;
            float zr = 0, zi = 0;
            int n = 0;
            while (n < limit && zr * zr + zi * zi < 4.0f) {
                float next = zr * zr - zi * zi + cr;
                zi = 2.0f * zr * zi + ci;
                zr = next;
                n++;
            }
            iterations += (unsigned long)n;
            putchar(shades[n == limit ? 9 : n % 9]);
        }
        putchar('\n');
    }
    return iterations;
}

/* --- SHA-256 (FIPS 180-4), its constants computed from the roots of primes --- */

static uint32_t round_constants[64], start_state[8];

static void prepare_sha256(void) {
    int found = 0;
    for (int n = 2; found < 64; n++) {
        int prime = 1;
        for (int d = 2; d * d <= n; d++) prime &= n % d != 0;
        if (!prime) continue;
        /* The first 32 bits after the binary point, by bisection in exact integer arithmetic. */
        uint64_t low = 0, high = (uint64_t)8 << 32;
        while (high - low > 1) {
            uint64_t middle = (low + high) / 2;
            if ((__uint128_t)middle * middle * middle <= ((__uint128_t)n << 96)) low = middle; else high = middle;
        }
        round_constants[found] = (uint32_t)low;
        if (found < 8) {
            low = 0, high = (uint64_t)8 << 32;
            while (high - low > 1) {
                uint64_t middle = (low + high) / 2;
                if ((__uint128_t)middle * middle <= ((__uint128_t)n << 64)) low = middle; else high = middle;
            }
            start_state[found] = (uint32_t)low;
        }
        found++;
    }
}

static uint32_t rotate(uint32_t value, int by) { return value >> by | value << (32 - by); }

static void compress(uint32_t *state, const unsigned char *block) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
               block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t a = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t b = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + a + w[i - 7] + b;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t e = rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25);
        uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
        uint32_t one = s[7] + e + choice + round_constants[i] + w[i];
        uint32_t a = rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22);
        uint32_t two = a + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void sha256(const unsigned char *data, size_t length, uint32_t *state) {
    unsigned char tail[128] = {0};
    size_t whole = length / 64, rest = length % 64, padded = rest < 56 ? 64 : 128;
    memcpy(state, start_state, sizeof start_state);
    for (size_t i = 0; i < whole; i++) compress(state, data + 64 * i);
    memcpy(tail, data + 64 * whole, rest);
    tail[rest] = 0x80;
    for (int i = 0; i < 8; i++) tail[padded - 1 - i] = (unsigned char)((uint64_t)length * 8 >> 8 * i);
    for (size_t i = 0; i < padded; i += 64) compress(state, tail + i);
}

static void print_sha256(const char *what, const unsigned char *data, size_t length) {
    uint32_t state[8];
    sha256(data, length, state);
    printf("sha256(%s) = ", what);
    for (int i = 0; i < 8; i++) printf("%08x", (unsigned)state[i]);
    printf("\n");
}

/* --- primes --- */

static unsigned count_primes(unsigned limit) {
    unsigned char *composite = calloc(limit, 1);
    unsigned count = 0;
    if (!composite) return 0;
    for (unsigned n = 2; n < limit; n++) {
        if (composite[n]) continue;
        count++;
        for (unsigned long long m = (unsigned long long)n * n; m < limit; m += n) composite[m] = 1;
    }
    free(composite);
    return count;
}

int main(int argc, char **argv) {
    int scale = argc > 1 ? atoi(argv[1]) : 1;
    if (scale < 1) {
        fprintf(stderr, "usage: compute [SCALE]\n");
        return 2;
    }
    struct body bodies[BODIES];
    start_bodies(bodies);
    printf("energy %.15e\n", energy(bodies));
    for (int i = 0; i < 20000 * scale; i++) advance(bodies, 0.001);
    printf("energy %.15e\n", energy(bodies));
    for (int i = 0; i < BODIES; i++)
        printf("body %d at %a %.17g %+.3f\n", i, bodies[i].position[0], bodies[i].position[1], bodies[i].position[2]);
    printf("%lu iterations\n", mandelbrot(72, 24, 100 * scale));
    prepare_sha256();
    print_sha256("", (const unsigned char *)"", 0);
    print_sha256("abc", (const unsigned char *)"abc", 3);
    size_t size = (size_t)100000 * (size_t)scale;
    unsigned char *data = malloc(size);
    if (!data) return 1;
    uint64_t seed = 42;
    for (size_t i = 0; i < size; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = (unsigned char)(seed >> 56);
    }
    print_sha256("random bytes", data, size);
    free(data);
    printf("%u primes\n", count_primes(200000u * (unsigned)scale));
    return 0;
}
