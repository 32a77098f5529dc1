/* SPDX-License-Identifier: BSD-2-Clause */
/* Names of translated blocks for perf and gdb.
 *
 * perf: /tmp/perf-PID.map, one line a block, which perf report reads by itself; or jit-PID.dump (Linux,
 * tools/perf/Documentation/jitdump-specification.txt), which has the code and the time of each, so that room which was
 * given to other blocks is told apart: perf record -k mono, perf inject --jit.
 *
 * gdb: its "JIT compilation interface": a list of object files in memory.  Each VP has one, over its whole cache: the
 * symbols of blocks come and go in place, and the one entry of .eh_frame says how to get from anywhere in the cache to the
 * C function that entered it, whose stack pointer is in j->rsp_host (t_enter, thunks.c). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hv/hv_int.h"
#include "hv/jit/observe.h"

#include <elf.h> /* behind ours: its PF_W is a macro */

/* ---- gdb's side (gdb's manual, "JIT Compilation Interface") ---- */

enum { JIT_NOACTION, JIT_REGISTER_FN, JIT_UNREGISTER_FN };
struct jit_code_entry {
    struct jit_code_entry *next_entry, *prev_entry;
    const char *symfile_addr;
    uint64_t symfile_size;
};
struct jit_descriptor {
    uint32_t version, action_flag;
    struct jit_code_entry *relevant_entry, *first_entry;
};
extern struct jit_descriptor __jit_debug_descriptor;
struct jit_descriptor __jit_debug_descriptor = { .version = 1 };
void __jit_debug_register_code(void);
/* gdb has a breakpoint here. */
__attribute__((noinline)) void __jit_debug_register_code(void) { __asm__ volatile("" ::: "memory"); }

/* ---- the files, of all VPs ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *map, *dump;
static void *marker;                /* what tells perf record of the dump */
static unsigned map_users, dump_users;
static uint64_t dump_index;

enum { SYMBOLS = 1 << 17, NAME_LEN = 40, TEXT = 1, SHSTR, FRAME, SYM, STR, SECTIONS };

/* An object file in memory. */
struct object {
    Elf64_Ehdr head;
    Elf64_Shdr sect[SECTIONS];
    char shstr[64];
    uint8_t frame[128];
    Elf64_Sym sym[SYMBOLS];         /* by the block's number; 0 none, 1 the thunks */
    char str[(SYMBOLS + 1) * NAME_LEN];
};

struct jit_symbols {
    bool map, dump;
    struct object *o;               /* for gdb */
    struct jit_code_entry entry;
    unsigned blocks, next;          /* named so far; when a gdb that is attached is told */
};

/* jitdump-specification.txt */
struct dump_head { uint32_t magic, version, size, mach, pad, pid; uint64_t time, flags; };
struct dump_load { uint32_t id, size; uint64_t time; uint32_t pid, tid; uint64_t vma, addr, len, index; };
enum { DUMP_MAGIC = 0x4a695444, DUMP_LOAD = 0 };

static uint64_t now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int map_open(void)
{
    char path[64];
    int fd;

    if (map_users++)
        return 0;
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    unlink(path); /* of a process that had the number before */
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    map = fd < 0 ? NULL : fdopen(fd, "w");
    if (map)
        return 0;
    map_users = 0;
    return hv_fail(-errno, "cannot write %s: %s", path, strerror(errno));
}

static int dump_open(const char *folder, size_t len)
{
    struct dump_head h = { DUMP_MAGIC, 1, sizeof(h), EM_X86_64, 0, (uint32_t)getpid(), now(), 0 };
    char path[512];
    int fd, err;

    if (dump_users++)
        return 0;
    snprintf(path, sizeof(path), "%.*s/jit-%d.dump", (int)len, folder, (int)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    dump = fd < 0 ? NULL : fdopen(fd, "w");
    if (dump) {
        fwrite(&h, sizeof(h), 1, dump);
        fflush(dump);
        /* perf record notes the mapping, and so finds the file. */
        marker = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
        if (marker != MAP_FAILED)
            return 0;
        err = errno;
        fclose(dump);
        dump = NULL;
        errno = err;
    }
    dump_users = 0;
    return hv_fail(-errno, "cannot write %s: %s", path, strerror(errno));
}

static void files_close(struct jit_symbols *s)
{
    if (s->map && !--map_users) {
        fclose(map);
        map = NULL;
    }
    if (s->dump && !--dump_users) {
        munmap(marker, (size_t)sysconf(_SC_PAGESIZE));
        fclose(dump);
        dump = NULL;
    }
}

static void name_range(struct jit_symbols *s, const struct jit *j, uint32_t from, uint32_t len, const char *name)
{
    pthread_mutex_lock(&lock);
    if (s->map) {
        fprintf(map, "%llx %x %s\n", (unsigned long long)(uintptr_t)(j->rx + from), len, name);
        fflush(map); /* it is looked at while the VM runs, or after it was killed */
    }
    if (s->dump) {
        struct dump_load l = { .id = DUMP_LOAD, .size = (uint32_t)(sizeof(l) + strlen(name) + 1 + len), .time = now(),
                               .pid = (uint32_t)getpid(), .tid = (uint32_t)syscall(SYS_gettid),
                               .vma = (uintptr_t)(j->rx + from), .addr = (uintptr_t)(j->rx + from), .len = len, .index = dump_index++ };

        fwrite(&l, sizeof(l), 1, dump);
        fwrite(name, strlen(name) + 1, 1, dump);
        fwrite(j->rw + from, len, 1, dump);
        fflush(dump);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- an object file ---- */

static uint8_t *uleb(uint8_t *p, uint64_t v)
{
    do {
        *p++ = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
    } while (v);
    return p;
}

static uint8_t *u64(uint8_t *p, uint64_t v) { return (uint8_t *)memcpy(p, &v, 8) + 8; }

static void set_len(uint8_t *from, uint8_t *to)
{
    uint32_t n = (uint32_t)(to - from - 4);

    memcpy(from, &n, 4);
}

/* One CIE and one FDE: everywhere in the cache the frame of the caller begins where t_enter has put rsp.  @return bytes. */
static size_t make_frame(uint8_t *base, const struct jit *j)
{
    static const uint8_t dwarf[] = { 3 /* rbx */, 6 /* rbp */, 12, 13, 14, 15 }; /* pushed in this order behind rip */
    enum { CFA_DEF_EXPR = 0x0f, CFA_OFFSET = 0x80, OP_ADDR = 0x03, OP_DEREF = 0x06, OP_PLUS_UCONST = 0x23, RIP = 16,
           SAVED = 8 /* sub rsp, 8 */ + 8 * (sizeof(dwarf) + 1) };
    uint8_t *p = base + 4, *fde, *len;
    uint32_t back;

    p = memset(p, 0, 4);            /* CIE */
    p += 4;
    *p++ = 1;                       /* version */
    *p++ = 'z', *p++ = 'R', *p++ = 0;
    p = uleb(p, 1);                 /* code alignment */
    *p++ = 0x78;                    /* data alignment: -8 */
    p = uleb(p, RIP);
    p = uleb(p, 1);
    *p++ = 0;                       /* pointers are absolute */
    *p++ = CFA_DEF_EXPR;
    len = p++;
    *p++ = OP_ADDR;
    p = u64(p, (uintptr_t)&j->rsp_host);
    *p++ = OP_DEREF;
    *p++ = OP_PLUS_UCONST;
    p = uleb(p, SAVED);
    *len = (uint8_t)(p - len - 1);
    *p++ = CFA_OFFSET | RIP;
    p = uleb(p, 1);
    for (unsigned i = 0; i < sizeof(dwarf); i++) {
        *p++ = CFA_OFFSET | dwarf[i];
        p = uleb(p, i + 2);
    }
    while ((p - base) % 8)
        *p++ = 0;
    set_len(base, p);
    fde = p;
    p += 4;
    back = (uint32_t)(p - base);
    memcpy(p, &back, 4);
    p = u64(p + 4, (uintptr_t)j->rx);
    p = u64(p, JIT_CACHE_SIZE);
    p = uleb(p, 0);
    while ((p - base) % 8)
        *p++ = 0;
    set_len(fde, p);
    p = memset(p, 0, 4);
    return (size_t)(p + 4 - base);
}

static void set_symbol(struct object *o, unsigned n, uint64_t addr, uint64_t size, const char *name)
{
    Elf64_Sym *s = &o->sym[n];

    s->st_size = 0;
    snprintf(&o->str[(n + 1) * NAME_LEN], NAME_LEN, "%s", name);
    s->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
    s->st_shndx = TEXT;
    s->st_value = addr;
    s->st_name = (n + 1) * NAME_LEN;
    s->st_size = size;
}

static void object_make(struct object *o, const struct jit *j)
{
    static const char names[] = "\0.text\0.shstrtab\0.eh_frame\0.symtab\0.strtab";
    static const uint8_t name_at[SECTIONS] = { 0, 1, 7, 17, 27, 35 };

    memcpy(o->head.e_ident, ELFMAG, SELFMAG);
    o->head.e_ident[EI_CLASS] = ELFCLASS64;
    o->head.e_ident[EI_DATA] = ELFDATA2LSB;
    o->head.e_ident[EI_VERSION] = EV_CURRENT;
    o->head.e_type = ET_EXEC;
    o->head.e_machine = EM_X86_64;
    o->head.e_version = EV_CURRENT;
    o->head.e_shoff = offsetof(struct object, sect);
    o->head.e_ehsize = sizeof(o->head);
    o->head.e_shentsize = sizeof(o->sect[0]);
    o->head.e_shnum = SECTIONS;
    o->head.e_shstrndx = SHSTR;
    memcpy(o->shstr, names, sizeof(names));
    o->sect[TEXT] = (Elf64_Shdr){ .sh_type = SHT_NOBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR, .sh_addr = (uintptr_t)j->rx,
                                  .sh_size = JIT_CACHE_SIZE, .sh_addralign = 16 };
    o->sect[SHSTR] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct object, shstr), .sh_size = sizeof(o->shstr), .sh_addralign = 1 };
    o->sect[FRAME] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC, .sh_addr = (uintptr_t)o->frame,
                                   .sh_offset = offsetof(struct object, frame), .sh_size = make_frame(o->frame, j), .sh_addralign = 8 };
    o->sect[SYM] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB, .sh_offset = offsetof(struct object, sym), .sh_size = sizeof(o->sym), .sh_link = STR,
                                 .sh_info = 1, .sh_addralign = 8, .sh_entsize = sizeof(Elf64_Sym) };
    o->sect[STR] = (Elf64_Shdr){ .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct object, str), .sh_size = sizeof(o->str), .sh_addralign = 1 };
    for (unsigned i = 0; i < SECTIONS; i++)
        o->sect[i].sh_name = name_at[i];
    set_symbol(o, 1, (uintptr_t)j->rx, j->first, "mobo_thunks");
}

/* Under the lock. */
static void tell(struct jit_code_entry *e, bool here)
{
    struct jit_descriptor *d = &__jit_debug_descriptor;

    if (here) {
        e->prev_entry = NULL;
        e->next_entry = d->first_entry;
        if (e->next_entry)
            e->next_entry->prev_entry = e;
        d->first_entry = e;
    } else {
        if (e->next_entry)
            e->next_entry->prev_entry = e->prev_entry;
        *(e->prev_entry ? &e->prev_entry->next_entry : &d->first_entry) = e->next_entry;
    }
    d->relevant_entry = e;
    d->action_flag = here ? JIT_REGISTER_FN : JIT_UNREGISTER_FN;
    __jit_debug_register_code();
    d->action_flag = JIT_NOACTION;
}

/* ---- blocks ---- */

void jit_symbols_block(struct jit_symbols *s, const struct jit *j, const struct jblock *b)
{
    unsigned n = (unsigned)(b - j->blocks) + 1;
    char name[NAME_LEN];

    snprintf(name, sizeof(name), "guest_%s_%llx", jit_mode_name(b->key), (unsigned long long)b->rip);
    if (s->map || s->dump)
        name_range(s, j, b->ind, b->end - b->ind, name);
    if (!s->o || n >= SYMBOLS)
        return;
    set_symbol(s->o, n, (uintptr_t)(j->rx + b->ind), b->end - b->ind, name);
    if (++s->blocks < s->next)
        return;
    s->next *= 2;                   /* one that is attached reads it all again */
    pthread_mutex_lock(&lock);
    tell(&s->entry, false);
    tell(&s->entry, true);
    pthread_mutex_unlock(&lock);
}

void jit_symbols_gone(struct jit_symbols *s, const struct jit *j, const struct jblock *b)
{
    unsigned n = (unsigned)(b - j->blocks) + 1;

    if (s->o && n < SYMBOLS)
        memset(&s->o->sym[n], 0, sizeof(s->o->sym[n]));
}

void jit_symbols_all_gone(struct jit_symbols *s)
{
    for (unsigned n = 2; s->o && n < SYMBOLS; n++)
        if (s->o->sym[n].st_name)
            memset(&s->o->sym[n], 0, sizeof(s->o->sym[n]));
}

void jit_symbols_destroy(struct jit_symbols *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&lock);
    if (s->entry.symfile_addr)
        tell(&s->entry, false);
    files_close(s);
    pthread_mutex_unlock(&lock);
    if (s->o)
        munmap(s->o, sizeof(*s->o));
    free(s);
}

static int add(struct jit_symbols *s, const struct jit *j, const char *word, size_t len)
{
    int err;

    if (len == 3 && !strncmp(word, "map", len) && !s->map) {
        err = map_open();
        s->map = !err;
    } else if (len >= 4 && !strncmp(word, "dump", 4) && (len == 4 || (word[4] == '=' && len > 5)) && !s->dump) {
        err = len > 5 ? dump_open(word + 5, len - 5) : dump_open(".", 1);
        s->dump = !err;
    } else if (len == 3 && !strncmp(word, "gdb", len) && !s->o) {
        s->o = mmap(NULL, sizeof(*s->o), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (s->o == MAP_FAILED) {
            s->o = NULL;
            return hv_fail(-ENOMEM, "translator: no memory for names");
        }
        object_make(s->o, j);
        s->entry.symfile_addr = (const char *)s->o;
        s->entry.symfile_size = sizeof(*s->o);
        s->next = 256;
        tell(&s->entry, true);
        err = 0;
    } else {
        err = hv_fail(-EINVAL, "names of translated code by '%.*s': not map, dump, dump=FOLDER or gdb, each once", (int)(len < 100 ? len : 100), word);
    }
    return err;
}

struct jit_symbols *jit_symbols_create(struct hv_vp *vp, const char *how, int *err)
{
    struct jit_symbols *s = calloc(1, sizeof(*s));

    *err = 0;
    if (!s) {
        *err = hv_fail(-ENOMEM, "translator: no memory");
        return NULL;
    }
    pthread_mutex_lock(&lock);
    do {
        size_t len = strcspn(how, ",");

        *err = add(s, vp->jit, how, len);
        how += len;
    } while (!*err && *how++ == ',');
    pthread_mutex_unlock(&lock);
    if (*err) {
        jit_symbols_destroy(s);
        return NULL;
    }
    name_range(s, vp->jit, 0, ((const struct jit *)vp->jit)->first, "mobo_thunks");
    return s;
}
