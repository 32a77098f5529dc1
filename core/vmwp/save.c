/* SPDX-License-Identifier: BSD-2-Clause */
/* Saving and restoring the VM of this worker: the board's state and its RAM, to and from a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log/log.h"
#include "core/vmwp/worker_int.h"

enum { BLOCKS = 4 };

static size_t ram_of(struct vmb *vmb, struct state_ram ram[BLOCKS])
{
    struct vmb_ram_block b[BLOCKS];
    unsigned n = vmb_ram_blocks(vmb, b, BLOCKS);

    for (unsigned i = 0; i < n && i < BLOCKS; i++)
        ram[i] = (struct state_ram){ b[i].len, b[i].hva, hv_ram_fd(vmb_partition(vmb)), b[i].offset };
    return n;
}

/* The description with preset and command line applied.  Owned by the caller; NULL: no memory. */
static char *config_text(const struct config *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);

    if (!f)
        return NULL;
    for (size_t i = 0; i < c->nsections; i++) {
        const struct config_section *s = &c->sections[i];

        fprintf(f, "%s[%s%s]\n", i ? "\n" : "", s->kind == CONFIG_VDEV ? "vdev " : "", s->name);
        for (size_t k = 0; k < s->nkeys; k++)
            fprintf(f, "%s = %s\n", s->keys[k].name, s->keys[k].value);
    }
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static int write_file(struct worker *w, const char *path, const void *state, size_t len, struct diag *diag)
{
    struct vmb_state_part *from = calloc(STATE_SECTIONS_MAX, sizeof(*from));
    struct state_part *parts = calloc(STATE_SECTIONS_MAX, sizeof(*parts));
    char *config = config_text(w->c);
    struct state_ram ram[BLOCKS];
    unsigned n = 0;
    int err = -ENOMEM;

    if (from && parts && config) {
        n = vmb_state_parts(state, len, from, STATE_SECTIONS_MAX);
        for (unsigned i = 0; i < n && i < STATE_SECTIONS_MAX; i++) {
            parts[i].data = from[i].data;
            parts[i].len = from[i].len;
            snprintf(parts[i].name, sizeof(parts[i].name), "%.*s", STATE_NAME - 1, from[i].name);
        }
        err = state_write(path, config, parts, n, ram, ram_of(w->vmb, ram), diag);
    } else {
        diag_set(diag, err, "no memory");
    }
    free(config);
    free(parts);
    free(from);
    return err;
}

int worker_save(struct worker *w, const char *path, struct diag *diag)
{
    char msg[VMB_MSG_LEN] = "";
    bool was_paused = w->paused;
    void *state = NULL;
    size_t len = 0;
    int err = was_paused ? 0 : vmb_pause(w->vmb);

    if (err)
        return diag_set(diag, err, "pause: %s", strerror(-err));
    err = worker_pending(w, diag); /* the state would not have it */
    if (!err) {
        err = vmb_save(w->vmb, &state, &len, msg, sizeof(msg));
        if (err)
            diag_set(diag, err, "%s", msg[0] ? msg : strerror(-err));
        else
            err = write_file(w, path, state, len, diag);
    }
    free(state);
    if (!err) {
        w->paused = true;
        return 0;
    }
    if (!was_paused && vmb_resume(w->vmb)) /* as if nothing had been asked */
        w->paused = true;
    return err;
}

struct load {
    struct worker *w;
    struct state_file *f;
};

static int load_ram(void *ctx, char *msg, size_t msg_len)
{
    struct load *l = ctx;
    struct state_ram ram[BLOCKS];
    struct diag diag = { "" };
    size_t n = ram_of(l->w->vmb, ram);
    int err = state_load_ram(l->f, ram, n, &diag);

    if (err)
        snprintf(msg, msg_len, "%.*s", (int)msg_len - 1, diag.text);
    return err;
}

int worker_restore(struct worker *w, struct state_file *f, struct diag *diag)
{
    struct load l = { w, f };
    char msg[VMB_MSG_LEN] = "";
    int err = vmb_restore(w->vmb, f->state, f->state_len, load_ram, &l, msg, sizeof(msg));

    if (!err)
        err = vmb_resume(w->vmb);
    return err ? diag_set(diag, err, "--restore %s: %s", DIAG_Q(w->opt->restore), msg[0] ? msg : strerror(-err)) : 0;
}
