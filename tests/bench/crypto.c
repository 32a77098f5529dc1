/* SPDX-License-Identifier: BSD-2-Clause */
/* A fixed amount of work for the distribution's libcrypto, through its public EVP interface.  Usage:
 * crypto digest ALGORITHM TURNS | cipher ALGORITHM TURNS | rsa TURNS | verify TURNS | x25519 TURNS.
 * A turn of digest and cipher is 16 KB.  What it prints does not depend on the processor. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK 16384
static unsigned char in[CHUNK], out[CHUNK + 64];

static void check(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s failed\n", what);
    exit(1);
}

static void print(const char *name, const unsigned char *p, size_t len)
{
    printf("%s ", name);
    for (size_t i = 0; i < len; i++)
        printf("%02x", p[i]);
    printf("\n");
}

static void digest(const char *name, unsigned n)
{
    const EVP_MD *md = EVP_get_digestbyname(name);
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    unsigned len = 0;

    check(md && c && EVP_DigestInit_ex(c, md, NULL), name);
    for (unsigned i = 0; i < n; i++) {
        in[i % CHUNK]++;
        check(EVP_DigestUpdate(c, in, CHUNK), name);
    }
    check(EVP_DigestFinal_ex(c, out, &len), name);
    print(name, out, len);
}

static void cipher(const char *name, unsigned n)
{
    const EVP_CIPHER *ci = EVP_get_cipherbyname(name);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    unsigned char key[64], iv[16], sum[16] = { 0 };
    int len = 0;

    for (int i = 0; i < 64; i++)
        key[i] = (unsigned char)(i * 7 + 1);
    memset(iv, 5, sizeof(iv));
    check(ci && c && EVP_EncryptInit_ex(c, ci, NULL, key, iv), name);
    for (unsigned i = 0; i < n; i++) {
        check(EVP_EncryptUpdate(c, out, &len, in, CHUNK) && len > 0, name);
        for (int k = 0; k < 16; k++)
            sum[k] = (unsigned char)(sum[k] * 3 ^ out[k * 100]);
    }
    print(name, sum, sizeof(sum));
}

static EVP_PKEY *key_of(const char *path)
{
    FILE *f = fopen(path, "r");
    EVP_PKEY *k = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;

    check(k != NULL, path);
    fclose(f);
    return k;
}

/* RSA signatures (PKCS #1 v1.5 is deterministic), or one and its verification again and again. */
static void rsa(unsigned n, int verify)
{
    EVP_PKEY *k = key_of("key.pem");
    size_t len = sizeof(out);

    for (unsigned i = 0; i < n; i++) {
        EVP_MD_CTX *c = EVP_MD_CTX_new();

        if (!verify || i == 0) {
            in[0] = (unsigned char)i;
            len = sizeof(out);
            check(EVP_DigestSignInit(c, NULL, EVP_sha256(), NULL, k) && EVP_DigestSign(c, out, &len, in, 64), "rsa");
        } else {
            check(EVP_DigestVerifyInit(c, NULL, EVP_sha256(), NULL, k) && EVP_DigestVerify(c, out, len, in, 64) == 1,
                  "verify");
        }
        EVP_MD_CTX_free(c);
    }
    /* The key is new for each run: only that it worked is the result. */
    printf("rsa %u of %u bits\n", n, (unsigned)EVP_PKEY_get_bits(k));
}

static void x25519(unsigned n)
{
    unsigned char a[32], b[32];

    for (int i = 0; i < 32; i++)
        a[i] = (unsigned char)(i + 1), b[i] = (unsigned char)(3 * i + 9);
    for (unsigned i = 0; i < n; i++) {
        EVP_PKEY *mine = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, a, 32),
                 *peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, b, 32);
        EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(mine, NULL);
        size_t len = 32;

        check(c && peer && EVP_PKEY_derive_init(c) > 0 && EVP_PKEY_derive_set_peer(c, peer) > 0 &&
                  EVP_PKEY_derive(c, b, &len) > 0, "x25519");
        EVP_PKEY_CTX_free(c);
        EVP_PKEY_free(mine);
        EVP_PKEY_free(peer);
    }
    print("x25519", b, 32);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    unsigned n = argc > 2 ? (unsigned)strtoul(argv[argc - 1], NULL, 10) : 0;

    for (unsigned i = 0; i < CHUNK; i++)
        in[i] = (unsigned char)(i * 31 + (i >> 8));
    if (argc == 4 && !strcmp(what, "digest"))
        digest(argv[2], n);
    else if (argc == 4 && !strcmp(what, "cipher"))
        cipher(argv[2], n);
    else if (argc == 3 && (!strcmp(what, "rsa") || !strcmp(what, "verify")))
        rsa(n, what[0] == 'v');
    else if (argc == 3 && !strcmp(what, "x25519"))
        x25519(n);
    else {
        fprintf(stderr, "usage: crypto WHAT [ALGORITHM] TURNS\n");
        return 2;
    }
    return 0;
}
