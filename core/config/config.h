/* SPDX-License-Identifier: BSD-2-Clause */
/* A VM description: the INI file, the preset below it and the command line above it, as sections of
 * keys that know where they were written; and the typed view of the sections that are ours.
 *
 * Grammar and meaning: mobo.ini(5). */
#ifndef CORE_CONFIG_CONFIG_H
#define CORE_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/diag.h"

struct config_key {
    char *name;
    char *value;
    struct diag_pos pos;
};

enum config_kind { CONFIG_VM, CONFIG_BOOT, CONFIG_ENLIGHTENMENTS, CONFIG_VDEV };

struct config_section {
    enum config_kind kind;
    char *name;          /* "vm", "boot", "enlightenments" or the device's name */
    struct diag_pos pos; /* of its header, or of what made it */
    bool preset;         /* came from the preset */
    struct config_key *keys;
    size_t nkeys;
};

enum config_firmware { FIRMWARE_LINUX, FIRMWARE_MULTIBOOT, FIRMWARE_SEABIOS, FIRMWARE_UEFI };

/* A file that a key names: the path made absolute, and the key. */
struct config_file {
    char *path;       /* NULL: not set */
    const char *args; /* multiboot modules: what follows the file name, else NULL; may be "" */
    struct diag_pos pos;
};

struct config {
    char *path; /* of the INI file, as given */
    char *dir;  /* its folder, absolute; relative paths in it begin here */
    struct config_section *sections;
    size_t nsections;
    char **files; /* owned names that positions point to */
    size_t nfiles;

    /* the typed view */
    const char *vm_name;
    unsigned generation;
    uint64_t memory;
    unsigned processors;
    const char *engine;
    struct diag_pos engine_pos, memory_pos;
    bool enlightened;
    uint64_t code_cache; /* bytes; 0: not set */
    unsigned native; /* enum hv_native */
    uint32_t enl_hide, enl_show; /* [enlightenments]: enum hv_enlightenment */
    enum config_firmware firmware;
    struct diag_pos firmware_pos;
    struct config_file kernel, initrd;
    const char *cmdline; /* "" when not set */
    struct diag_pos cmdline_pos;
    struct config_file *modules;
    size_t nmodules;
    char *modules_text; /* owned; the modules' args point into it */
};

/* What is asked of the host while checking; zeroes ask the host. */
struct config_limits {
    uint64_t host_memory;
};

/** Read @path, put it over its generation's preset and @sets over both, check everything that needs
 * no device.  @return 0 with *ret_config, or -errno with the sentence. */
int config_load(const char *path, const char *const *sets, size_t nsets,
                const struct config_limits *limits, struct config **ret_config, struct diag *diag);

/** The same from text that is in memory; @path is for messages and relative paths. */
int config_parse(const char *path, const char *text, size_t len, const char *const *sets,
                 size_t nsets, const struct config_limits *limits, struct config **ret_config,
                 struct diag *diag);

void config_destroy(struct config *c);

const struct config_key *config_find(const struct config_section *s, const char *key);

/** The text of a preset, NULL when there is none of that generation. */
const char *config_preset(unsigned generation);
/** What enlightened boards have besides. */
const char *config_preset_enlightened(void);

/** @return 0 with the value, -EINVAL when it is not a size, -ERANGE when it does not fit. */
int config_size(const char *text, uint64_t *ret);
/** yes/no, on/off, true/false, 1/0.  @return 0 or -EINVAL. */
int config_bool(const char *text, bool *ret);

/* ---- ini.c ----------------------------------------------------------------------------------- */

enum { INI_LINE_MAX = 4095, INI_FILE_MAX = 16 << 20, INI_NAME_MAX = 31 };

/* What the reader of the text tells; a nonzero answer ends it with that error (diag is set). */
struct ini_handler {
    int (*section)(void *ctx, const char *name, unsigned line);
    int (*key)(void *ctx, const char *name, const char *value, unsigned line);
    void *ctx;
};

/** Read INI text: comments, sections, keys; one-line messages "FILE:LINE: ...". */
int ini_read(const char *file, const char *text, size_t len, const struct ini_handler *h,
             struct diag *diag);

/** Read a file into memory (owned by the caller, NUL behind it). */
int ini_load_file(const char *path, char **ret_text, size_t *ret_len, struct diag *diag);

#endif
