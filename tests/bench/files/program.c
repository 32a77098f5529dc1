/* SPDX-License-Identifier: BSD-2-Clause */
/* Something to compile: a tokenizer, a tree, a hash table, an evaluator, formatted output. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef SEED
#define SEED 1
#endif

enum kind { NUMBER, NAME, OPERATOR, LEFT, RIGHT, END };

struct token { enum kind kind; long value; char name[16]; };
struct node { char op; long value; char name[16]; struct node *left, *right; };
struct entry { char name[16]; long value; struct entry *next; };

static struct entry *table[64];
static const char *text;
static struct token token;

static unsigned hash(const char *s)
{
    unsigned h = 5381;

    while (*s)
        h = h * 33 ^ (unsigned char)*s++;
    return h % 64;
}

static long *variable(const char *name)
{
    unsigned h = hash(name);
    struct entry *e;

    for (e = table[h]; e; e = e->next)
        if (!strcmp(e->name, name))
            return &e->value;
    e = calloc(1, sizeof(*e));
    if (!e)
        exit(1);
    strncpy(e->name, name, sizeof(e->name) - 1);
    e->next = table[h];
    table[h] = e;
    return &e->value;
}

static void advance(void)
{
    unsigned n = 0;

    while (isspace((unsigned char)*text))
        text++;
    token.value = 0;
    if (!*text) {
        token.kind = END;
    } else if (isdigit((unsigned char)*text)) {
        token.kind = NUMBER;
        while (isdigit((unsigned char)*text))
            token.value = token.value * 10 + (*text++ - '0');
    } else if (isalpha((unsigned char)*text)) {
        token.kind = NAME;
        while (isalnum((unsigned char)*text)) {
            if (n + 1 < sizeof(token.name))
                token.name[n++] = *text;
            text++;
        }
        token.name[n] = 0;
    } else {
        token.kind = *text == '(' ? LEFT : *text == ')' ? RIGHT : OPERATOR;
        token.value = (unsigned char)*text++;
    }
}

static struct node *make(char op, struct node *left, struct node *right)
{
    struct node *n = calloc(1, sizeof(*n));

    if (!n)
        exit(1);
    n->op = op;
    n->left = left;
    n->right = right;
    return n;
}

static struct node *sum(void);

static struct node *primary(void)
{
    struct node *n;

    if (token.kind == LEFT) {
        advance();
        n = sum();
        advance();
        return n;
    }
    n = make(token.kind == NUMBER ? '0' : 'v', NULL, NULL);
    n->value = token.value;
    memcpy(n->name, token.name, sizeof(n->name));
    advance();
    return n;
}

static struct node *product(void)
{
    struct node *n = primary();

    while (token.kind == OPERATOR && (token.value == '*' || token.value == '/' || token.value == '%')) {
        char op = (char)token.value;

        advance();
        n = make(op, n, primary());
    }
    return n;
}

static struct node *sum(void)
{
    struct node *n = product();

    while (token.kind == OPERATOR && (token.value == '+' || token.value == '-')) {
        char op = (char)token.value;

        advance();
        n = make(op, n, product());
    }
    return n;
}

static long eval(const struct node *n)
{
    long a, b;

    switch (n->op) {
    case '0': return n->value;
    case 'v': return *variable(n->name);
    }
    a = eval(n->left);
    b = eval(n->right);
    switch (n->op) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return (a * b) % 1000003;
    case '/': return b ? a / b : 0;
    case '%': return b ? a % b : 0;
    }
    return 0;
}

static void release(struct node *n)
{
    if (!n)
        return;
    release(n->left);
    release(n->right);
    free(n);
}

static int compare(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;

    return (*x)->value < (*y)->value ? -1 : (*x)->value > (*y)->value ? 1 : strcmp((*x)->name, (*y)->name);
}

int main(void)
{
    static const char *const lines[] = {
        "a * 3 + b", "(a + b) * (c - 7) % 911", "x1 / 3 + x2 * (x3 - a) - 12", "((a)) + ((b * (c + 1)))",
        "9 * 8 * 7 * 6 - 5 % 4 + longername", "c - b - a + x1 * x1 * x1",
    };
    static const char *const names[] = { "a", "b", "c", "x1", "x2", "x3", "longername" };
    struct entry *all[64];
    unsigned n = 0;
    uint64_t check = SEED;

    for (unsigned i = 0; i < 7; i++)
        *variable(names[i]) = (long)i * 37 + SEED;
    for (unsigned round = 0; round < 3000; round++) {
        struct node *tree;
        long v;

        text = lines[round % 6];
        advance();
        tree = sum();
        v = eval(tree);
        release(tree);
        *variable(names[round % 7]) = v;
        check = check * 6364136223846793005u + (uint64_t)v;
    }
    for (unsigned i = 0; i < 64; i++)
        for (struct entry *e = table[i]; e; e = e->next)
            all[n++] = e;
    /* an array of pointers: NOLINTNEXTLINE(bugprone-sizeof-expression) */
    qsort(all, n, sizeof(all[0]), compare);
    for (unsigned i = 0; i < n; i++)
        printf("%-12s %ld\n", all[i]->name, all[i]->value);
    printf("%016llx\n", (unsigned long long)check);
    return 0;
}
