/* The three memory functions that the compiler may call for struct copies and loops; there is no C library here. */

typedef __SIZE_TYPE__ size;

void *memset(void *to, int value, size count)
{
    volatile unsigned char *bytes = to;
    for (size i = 0; i < count; i++)
        bytes[i] = value;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size count)
{
    volatile unsigned char *bytes = to;
    const unsigned char *source = from;
    for (size i = 0; i < count; i++)
        bytes[i] = source[i];
    return to;
}
