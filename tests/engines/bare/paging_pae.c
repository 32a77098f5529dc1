/* SPDX-License-Identifier: BSD-2-Clause */
/* The paging guest for PAE paging: see paging.c. */
#define PAE
#include "paging.c"
