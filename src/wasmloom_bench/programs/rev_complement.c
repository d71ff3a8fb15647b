/* Reverse complement of the sequences of a FASTA text. Letters outside the nucleotide code pass unchanged. */

typedef unsigned char byte;

enum { LARGEST = 1 << 16, WIDTH = 60 };

static byte input[LARGEST];
static byte output[LARGEST + 1];
static byte complement[256];

__attribute__((visibility("default"))) byte *rev_input(void) { return input; }
__attribute__((visibility("default"))) byte *rev_output(void) { return output; }

__attribute__((visibility("default"))) void rev_setup(void)
{
    static const char from[] = "ACGTUMRWSYKVHDBN", to[] = "TGCAAKYWSRMBDHVN";
    for (int i = 0; i < 256; i++)
        complement[i] = i;
    for (int i = 0; from[i]; i++)
        complement[(byte)from[i]] = complement[from[i] | 0x20] = to[i];
}

/* Reads input[0..length), writes output, and returns the number of bytes written. */
__attribute__((visibility("default"))) int rev_complement(int length)
{
    int in = 0, out = 0;
    while (in < length) {
        if (input[in] == '>') {
            while (in < length && input[in] != '\n')
                output[out++] = input[in++];
            in++;
            output[out++] = '\n';
        }
        int end = in;
        while (end < length && input[end] != '>')
            end++;
        int column = 0;
        for (int from = end - 1; from >= in; from--) {
            if (input[from] == '\n')
                continue;
            if (column == WIDTH) {
                output[out++] = '\n';
                column = 0;
            }
            output[out++] = complement[input[from]];
            column++;
        }
        if (column)
            output[out++] = '\n';
        in = end;
    }
    return out;
}
