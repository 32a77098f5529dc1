/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs a fuzz target without libFuzzer: over files and folders, and over inputs of its own.
 *
 *   NAME_corpus [-n COUNT] [-s SEED] [-o LAST] [FILE|FOLDER ...]
 *
 * Without names it takes tests/fuzz/corpus/NAME of the source tree ($srcdir). */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
/* A target that takes its time says how many inputs of our own are enough. */
extern const unsigned long fuzz_inputs __attribute__((weak));

enum { INPUT_MAX = 1 << 20, SEEDS_MAX = 256 };

static struct {
    uint8_t *data;
    size_t len;
} seeds[SEEDS_MAX];
static size_t nseeds;
static uint64_t state = 0x6d6f626f;
static const char *last; /* file that keeps the last input */

static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int run_file(const char *path)
{
    uint8_t *buf = malloc(INPUT_MAX);
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f || !buf) {
        perror(path);
        free(buf);
        return 1;
    }
    n = fread(buf, 1, INPUT_MAX, f);
    fclose(f);
    LLVMFuzzerTestOneInput(buf, n);
    if (nseeds < SEEDS_MAX) {
        seeds[nseeds].data = buf;
        seeds[nseeds++].len = n;
    } else {
        free(buf);
    }
    return 0;
}

static int run_path(const char *path)
{
    struct stat st;
    struct dirent *e;
    DIR *d;
    int bad = 0;

    if (stat(path, &st) < 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(st.st_mode))
        return run_file(path);
    d = opendir(path);
    if (!d) {
        perror(path);
        return 1;
    }
    while ((e = readdir(d))) {
        char name[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        bad |= run_file(name);
    }
    closedir(d);
    return bad;
}

/* A known input with a few bytes changed, or noise. */
static void run_random(void)
{
    static uint8_t buf[8192];
    size_t n = rnd() % 64, from = nseeds ? rnd() % (nseeds * 2) : 1;

    for (size_t i = 0; i < 64; i++)
        buf[i] = (uint8_t)(rnd() >> 13);
    if (from < nseeds && seeds[from].len < sizeof(buf) - 64) {
        uint8_t tail[64];
        memcpy(tail, buf, sizeof(tail));
        memcpy(buf, seeds[from].data, seeds[from].len);
        memcpy(buf + seeds[from].len, tail, sizeof(tail));
        n = seeds[from].len + rnd() % sizeof(tail);
        for (size_t i = rnd() % 4; i && n; i--)
            buf[rnd() % n] = (uint8_t)(rnd() >> 13);
    }
    if (last) { /* for whoever looks into an abort */
        FILE *f = fopen(last, "wb");
        if (f) {
            fwrite(buf, 1, n, f);
            fclose(f);
        }
    }
    LLVMFuzzerTestOneInput(buf, n);
}

int main(int argc, char **argv)
{
    const char *src = getenv("srcdir"), *base = strrchr(argv[0], '/');
    unsigned long count = &fuzz_inputs ? fuzz_inputs : 1000;
    char path[4096];
    int c, bad = 0;

    while ((c = getopt(argc, argv, "n:s:o:")) != -1) {
        if (c == 'n')
            count = strtoul(optarg, NULL, 0);
        else if (c == 'o')
            last = optarg;
        else if (c == 's')
            state = strtoull(optarg, NULL, 0) | 1;
        else
            return 2;
    }
    if (optind == argc) {
        base = base ? base + 1 : argv[0];
        if (strncmp(base, "lt-", 3) == 0)
            base += 3;
        snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%.*s", src ? src : ".",
                 (int)strcspn(base, "_"), base);
        bad = access(path, F_OK) == 0 ? run_path(path) : 0; /* a target may have no corpus */
    }
    for (int i = optind; i < argc; i++)
        bad |= run_path(argv[i]);
    printf("%zu files", nseeds);
    for (unsigned long i = 0; i < count; i++)
        run_random();
    printf(", %lu inputs of our own\n", count);
    for (size_t i = 0; i < nseeds; i++)
        free(seeds[i].data);
    return bad;
}
