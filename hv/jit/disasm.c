/* SPDX-License-Identifier: BSD-2-Clause */
/* mobo-disasm: a file of translated blocks (mobo run --dump jit=FILE) with its bytes in words, by Zydis.
 *
 * A line "guest ADDRESS BYTES" or "enter", "host", "leave", "cold ADDRESS BYTES" is followed by one line an instruction.
 * Cold code has data between instructions, which reads as odd ones. */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

enum { LINE_MAX_LEN = 1 << 20 };

static void words(const ZydisDecoder *d, const ZydisFormatter *f, const uint8_t *p, size_t len, uint64_t at)
{
    for (size_t off = 0; off < len;) {
        ZydisDecodedInstruction in;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        char text[192];

        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(d, p + off, len - off, &in, op))) {
            printf("      %" PRIx64 ": (0x%02x)\n", at + off, p[off]);
            off++;
            continue;
        }
        if (!ZYAN_SUCCESS(ZydisFormatterFormatInstruction(f, &in, op, in.operand_count_visible, text, sizeof(text), at + off, ZYAN_NULL)))
            snprintf(text, sizeof(text), "?");
        printf("      %" PRIx64 ": %s\n", at + off, text);
        off += in.length;
    }
}

/* "  WHAT ADDRESS BYTES [; ...]".  @return the number of bytes, in place of the text. */
static size_t bytes(char *text, uint64_t *ret_at)
{
    uint8_t *out = (uint8_t *)text;
    size_t n = 0;
    char *end;

    *ret_at = strtoull(text, &end, 16);
    for (char *p = end; isxdigit((unsigned char)p[p[0] == ' ']) && p[0] == ' '; p = end)
        out[n++] = (uint8_t)strtoul(p, &end, 16); /* shorter than what it was read from */
    return n;
}

static int file(FILE *in)
{
    char *line = malloc(LINE_MAX_LEN), *copy = malloc(LINE_MAX_LEN);
    ZydisDecoder d64, d32;
    ZydisFormatter f;
    bool m32 = false;

    if (!line || !copy || !ZYAN_SUCCESS(ZydisDecoderInit(&d64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ||
        !ZYAN_SUCCESS(ZydisDecoderInit(&d32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32)) ||
        !ZYAN_SUCCESS(ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL))) {
        fputs("mobo-disasm: no memory, or no Zydis\n", stderr);
        free(line);
        free(copy);
        return 2;
    }
    while (fgets(line, LINE_MAX_LEN, in)) {
        static const char *const host[] = { "  enter 0x", "  host 0x", "  leave 0x", "  cold 0x" };
        uint64_t at;
        size_t n;

        fputs(line, stdout);
        if (!strncmp(line, "block ", 6))
            m32 = strstr(line, "mode k32") || strstr(line, "mode u32");
        strcpy(copy, line);
        if (!strncmp(copy, "  guest 0x", 10)) {
            n = bytes(copy + 8, &at);
            words(m32 ? &d32 : &d64, &f, (uint8_t *)copy + 8, n, at);
        }
        for (size_t i = 0; i < sizeof(host) / sizeof(host[0]); i++)
            if (!strncmp(copy, host[i], strlen(host[i]))) {
                char *text = copy + strlen(host[i]) - 2;

                n = bytes(text, &at);
                words(&d64, &f, (uint8_t *)text, n, at);
                break;
            }
    }
    free(line);
    free(copy);
    return ferror(in) || fflush(stdout) ? 2 : 0;
}

int main(int argc, char **argv)
{
    FILE *in = argc == 2 && strcmp(argv[1], "-") ? fopen(argv[1], "r") : stdin;
    int status;

    if (argc > 2 || (argc == 2 && argv[1][0] == '-' && argv[1][1])) {
        fputs("usage: mobo-disasm [FILE]     FILE: of mobo run --dump jit=FILE; default: standard input\n", stderr);
        return 1;
    }
    if (!in) {
        fprintf(stderr, "mobo-disasm: cannot read %s\n", argv[1]);
        return 2;
    }
    status = file(in);
    if (in != stdin)
        fclose(in);
    return status;
}
