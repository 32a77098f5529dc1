/* SPDX-License-Identifier: BSD-2-Clause */
/* Boot loaders: they stand in for firmware and put a kernel and the state of VP 0 in place.
 *
 * A loader opens and checks its files once (open), before the guest is touched, and fills guest
 * memory at every power-on and reset (load).  The files stay open, so that a reset works after the
 * worker gave its privileges away; a file that changed its size in between is an error. */
#ifndef CORE_LOADER_LOADER_H
#define CORE_LOADER_LOADER_H

#include <mobo/hv.h>

#include "core/config/config.h"

struct loader;

/* A range of the guest's physical address map; types as ACPI's address range types. */
enum { LOADER_RAM = 1, LOADER_RESERVED = 2, LOADER_ACPI = 3, LOADER_NVS = 4 };
struct loader_range {
    uint64_t gpa, len;
    uint32_t type;
};

struct loader_machine {
    struct hv_partition *p;
    const struct loader_range *map; /* ascending, no overlaps */
    size_t nmap;
    uint64_t rsdp; /* 0: no ACPI tables */
};

/** Open and check the files that [boot] names.  @ram_low is the RAM from 0 on below 4 GiB.
 * @return 0 with *ret; -errno with a sentence that names file and line. */
int loader_open(const struct config *c, uint64_t ram_low, struct loader **ret, struct diag *diag);

/** Put everything into guest memory and set VP 0's registers.  The partition has been reset.
 * Other VPs stay in wait-for-SIPI.  @return 0, or -errno with a sentence. */
int loader_load(struct loader *l, const struct loader_machine *m, struct diag *diag);

void loader_close(struct loader *l);

#endif
