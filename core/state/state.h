/* SPDX-License-Identifier: BSD-2-Clause */
/* The file that a saved VM is in: header, sections, each with a checksum; RAM without its zero pages.
 *
 * Layout: mobo-state(5).  Knows no board: what is in a section of the state is its caller's. */
#ifndef CORE_STATE_STATE_H
#define CORE_STATE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/diag.h"

enum { STATE_NAME = 32, STATE_SECTIONS_MAX = 2048 };

/* A part of the state that gets a section of its own; pieces follow each other in memory. */
struct state_part {
    char name[STATE_NAME]; /* for messages */
    const void *data;
    size_t len;
};

/* Guest RAM: blocks of whole pages, in the order in which they are numbered. */
struct state_ram {
    uint64_t len;
    uint8_t *hva;
    int fd;          /* the same memory at @offset, to find holes; -1: there is none */
    uint64_t offset;
};

/** Write @path: to a temporary beside it, to the disk, then in place of what was there, which stays
 * as it is when anything fails or the process ends.  That the folder cannot be synced is a warning.
 * @param config  the VM description as it was in force; for people
 * @return 0, or -errno with a sentence. */
int state_write(const char *path, const char *config, const struct state_part *parts, size_t nparts,
                const struct state_ram *ram, size_t nram, struct diag *diag);

struct state_file {
    int fd;
    uint64_t size;
    char *config;      /* owned, NUL-terminated; may be empty */
    uint8_t *state;    /* owned: all parts, one after the other */
    size_t state_len;
    int64_t created;   /* seconds since 1970 */
    uint64_t ram_at, ram_len; /* the RAM section's data */
    uint32_t ram_crc;
    uint64_t ram_size; /* bytes of RAM that it describes */
    bool checked;      /* the RAM section's checksum was right */
};

/** Open and check everything but the contents of RAM.  @return 0, or -errno with a sentence.
 * state_open_fd() takes over @fd, also when it fails; @name is for messages. */
int state_open(const char *path, struct state_file **ret, struct diag *diag);
int state_open_fd(int fd, const char *name, struct state_file **ret, struct diag *diag);
void state_close(struct state_file *f);

/** Fill RAM, pages without contents with zeroes.  @return 0, or -errno with a sentence, and RAM with
 * anything in it. */
int state_load_ram(struct state_file *f, const struct state_ram *ram, size_t nram, struct diag *diag);

#endif
