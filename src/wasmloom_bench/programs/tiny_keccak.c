/* Keccak-f[1600] sponge with a 256-bit result over 4096 bytes.
   keccak(pad) hashes: pad 1 is the original Keccak, pad 6 is SHA3-256 (so that an answer can be checked elsewhere). */

typedef unsigned char byte;
typedef unsigned long long lane;

enum { INPUT = 4096, RATE = 136, ROUNDS = 24 };

static byte input[INPUT];
static byte digest[32];
static lane state[25];

static lane rotate(lane value, int by) { return by ? value << by | value >> (64 - by) : value; }

static void permute(void)
{
    lane parity[5], moved[25];
    byte lfsr = 1;
    for (int round = 0; round < ROUNDS; round++) {
        for (int x = 0; x < 5; x++)
            parity[x] = state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20];
        for (int x = 0; x < 5; x++) {
            lane mix = parity[(x + 4) % 5] ^ rotate(parity[(x + 1) % 5], 1);
            for (int y = 0; y < 25; y += 5)
                state[y + x] ^= mix;
        }
        int x = 1, y = 0, by = 0;
        moved[0] = state[0];
        for (int step = 1; step < 25; step++) {
            by = (by + step) % 64;
            int next_y = (2 * x + 3 * y) % 5;
            moved[next_y * 5 + y] = rotate(state[y * 5 + x], by);
            x = y;
            y = next_y;
        }
        for (int row = 0; row < 25; row += 5)
            for (int column = 0; column < 5; column++)
                state[row + column] =
                    moved[row + column] ^ (~moved[row + (column + 1) % 5] & moved[row + (column + 2) % 5]);
        for (int bit = 0; bit < 7; bit++) { /* the round constant comes from a shift register */
            if (lfsr & 1)
                state[0] ^= 1ull << ((1 << bit) - 1);
            lfsr = lfsr & 0x80 ? lfsr << 1 ^ 0x71 : lfsr << 1;
        }
    }
}

__attribute__((visibility("default"))) void keccak_setup(int fill)
{
    for (int i = 0; i < INPUT; i++)
        input[i] = fill;
}

__attribute__((visibility("default"))) void keccak(int pad)
{
    byte *bytes = (byte *)state;
    for (int i = 0; i < 25; i++)
        state[i] = 0;
    int at = 0;
    for (int i = 0; i < INPUT; i++) {
        bytes[at++] ^= input[i];
        if (at == RATE) {
            permute();
            at = 0;
        }
    }
    bytes[at] ^= pad;
    bytes[RATE - 1] ^= 0x80;
    permute();
    for (int i = 0; i < 32; i++)
        digest[i] = bytes[i];
}

__attribute__((visibility("default"))) byte *keccak_digest(void) { return digest; }
