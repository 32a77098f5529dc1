/* SPDX-License-Identifier: BSD-2-Clause */
/* What a shared object exports, looked up in the file before any of its code runs.
 * Reference: "Tool Interface Standard (TIS) Executable and Linking Format", 1.2, and the System V ABI,
 * AMD64 supplement. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmb/board.h"

static bool inside(size_t size, uint64_t off, uint64_t len)
{
    return len <= size && off <= size - len;
}

/* Look through one table of dynamic symbols.  @return number of exported ones; the first that is not
 * @allowed goes to *@ret_other. */
static unsigned scan(const uint8_t *file, size_t size, const Elf64_Shdr *sec, const Elf64_Shdr *str,
                     const char *allowed, const char **ret_other)
{
    unsigned n = 0;

    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= sec->sh_size; at += sizeof(Elf64_Sym)) {
        Elf64_Sym sym;
        const char *name;

        memcpy(&sym, file + sec->sh_offset + at, sizeof(sym));
        if (sym.st_shndx == SHN_UNDEF || ELF64_ST_BIND(sym.st_info) == STB_LOCAL ||
            (ELF64_ST_VISIBILITY(sym.st_other) != STV_DEFAULT &&
             ELF64_ST_VISIBILITY(sym.st_other) != STV_PROTECTED) ||
            sym.st_name >= str->sh_size)
            continue;
        name = (const char *)file + str->sh_offset + sym.st_name;
        if (!memchr(name, 0, (size_t)(file + size - (const uint8_t *)name)))
            continue;
        if (name[0] == '_') /* the compiler's, the linker's, a sanitizer's */
            continue;
        n++;
        if (strcmp(name, allowed) && !*ret_other)
            *ret_other = name;
    }
    return n;
}

int plugin_exports(const char *path, const char *allowed, char *other, size_t len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), ret = -ENOEXEC;
    const char *name = NULL;
    struct stat st;
    Elf64_Ehdr eh;
    uint8_t *file = MAP_FAILED;
    size_t size = 0;

    if (fd < 0 || fstat(fd, &st))
        goto out;
    size = (size_t)st.st_size;
    if (size < sizeof(eh))
        goto out;
    file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (file == MAP_FAILED)
        goto out;
    memcpy(&eh, file, sizeof(eh));
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_machine != EM_X86_64 || eh.e_shentsize != sizeof(Elf64_Shdr) ||
        !inside(size, eh.e_shoff, (uint64_t)eh.e_shnum * sizeof(Elf64_Shdr)))
        goto out;
    for (unsigned i = 0; i < eh.e_shnum; i++) {
        Elf64_Shdr sec, str;

        memcpy(&sec, file + eh.e_shoff + i * sizeof(sec), sizeof(sec));
        if (sec.sh_type != SHT_DYNSYM || sec.sh_link >= eh.e_shnum)
            continue;
        memcpy(&str, file + eh.e_shoff + sec.sh_link * sizeof(str), sizeof(str));
        if (!inside(size, sec.sh_offset, sec.sh_size) || !inside(size, str.sh_offset, str.sh_size))
            continue;
        ret = (int)scan(file, size, &sec, &str, allowed, &name);
        if (name)
            snprintf(other, len, "%.60s", name);
    }
out:
    if (file != MAP_FAILED)
        munmap(file, size);
    if (fd >= 0)
        close(fd);
    return ret;
}
