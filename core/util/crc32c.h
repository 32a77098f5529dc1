/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C (polynomial 0x1edc6f41, reflected), as VHDX and saved states have it. */
#ifndef CORE_UTIL_CRC32C_H
#define CORE_UTIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/** The checksum of what @crc is of (0: nothing), followed by @len bytes. */
uint32_t crc32c(uint32_t crc, const void *buf, size_t len);

#endif
