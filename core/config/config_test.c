/* SPDX-License-Identifier: BSD-2-Clause */
/* VM descriptions: grammar, presets, overrides, and the sentence of every kind of mistake.
 * tests/config/ has the same through the program; here is what files cannot hold. */
#include "core/config/config.h"
#include <mobo/hv.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct config_limits limits = { .host_memory = 8ULL << 30 };

static struct config *must(const char *text, const char *const *sets, size_t nsets)
{
    struct config *c = NULL;
    struct diag d = { "" };
    int err = config_parse("/vms/a.ini", text, strlen(text), sets, nsets, &limits, &c, &d);

    if (err)
        print_error("%s\n", d.text);
    assert_int_equal(err, 0);
    assert_non_null(c);
    return c;
}

static void refuse_n(const char *text, size_t len, const char *set, const char *expect)
{
    struct config *c = (struct config *)0x1;
    struct diag d = { "" };
    int err = config_parse("/vms/a.ini", text, len, &set, set != NULL, &limits, &c, &d);

    assert_true(err < 0);
    assert_ptr_equal(c, (struct config *)0x1);
    assert_string_equal(d.text, expect);
}

static void refuse(const char *text, const char *set, const char *expect)
{
    refuse_n(text, strlen(text), set, expect);
}

static const struct config_section *find(const struct config *c, const char *name)
{
    for (size_t i = 0; i < c->nsections; i++)
        if (strcmp(c->sections[i].name, name) == 0)
            return &c->sections[i];
    return NULL;
}

#define BOOT "[boot]\nkernel=k\n"

static void test_enlightenments(void **state)
{
    struct config *c = must("[enlightenments]\nsynic = no\nextended_hypercalls = yes\nvp_runtime=off\n[boot]\nkernel=/k\n",
                            NULL, 0);

    (void)state;
    assert_int_equal(c->enl_hide, HV_ENL_SYNIC | HV_ENL_VP_RUNTIME);
    assert_int_equal(c->enl_show, HV_ENL_EXTENDED);
    config_destroy(c);
}

static void test_plain(void **state)
{
    struct config *c = must("\xef\xbb\xbf; a comment\n# another\n\n"
                            "[ vm ] ; comment\r\n"
                            "  name = debian\r\n"
                            "\tmemory=1G;not a comment? yes it is part\n",
                            (const char *const[]){ "vm.memory=2G", "boot.kernel=/k" }, 2);

    (void)state;
    assert_string_equal(c->vm_name, "debian");
    assert_true(c->memory == 2ULL << 30);
    assert_int_equal(c->native, HV_NATIVE_AUTO);
    assert_string_equal(c->kernel.path, "/k");
    config_destroy(c);

    c = must("[vm]\nmemory = 64M ; inline\nprocessors = 0x10\nengine = interp\nenlightened = off\ncode_cache = 32M\nnative = no\n"
             "[boot]\nkernel = sub/vmlinuz\ninitrd = /abs/initrd\ncmdline = a=b c;d \"e\" ; f\n",
             NULL, 0);
    assert_true(c->memory == 64 << 20);
    assert_true(c->code_cache == 32 << 20);
    assert_int_equal(c->native, HV_NATIVE_NO);
    assert_true(c->enl_hide == 0 && c->enl_show == 0);
    assert_int_equal(c->processors, 16);
    assert_string_equal(c->engine, "interp");
    assert_false(c->enlightened);
    assert_string_equal(c->cmdline, "a=b c;d \"e\"");
    assert_true(strlen(c->kernel.path) > 12 &&
                strcmp(c->kernel.path + strlen(c->kernel.path) - 12, "/sub/vmlinuz") == 0);
    assert_string_equal(c->initrd.path, "/abs/initrd");
    assert_int_equal(c->initrd.pos.line, 10);
    assert_string_equal(c->initrd.pos.file, "/vms/a.ini");
    config_destroy(c);
}

static void test_long_value(void **state)
{
    char text[4200], arg[3000];
    struct config *c;

    (void)state;
    memset(arg, 'x', sizeof(arg) - 1);
    arg[sizeof(arg) - 1] = '\0';
    arg[1500] = ';'; /* no blank before it: part of the value */
    snprintf(text, sizeof(text), BOOT "cmdline =  %s  ; tail\nfirmware = linux\n", arg);
    c = must(text, NULL, 0);
    assert_string_equal(c->cmdline, arg);
    config_destroy(c);
    /* around the size of the parser's line buffer */
    for (int n = 150; n < 260; n++) {
        arg[n] = '\0';
        snprintf(text, sizeof(text), BOOT "cmdline = %s\nfirmware = linux\n", arg);
        c = must(text, NULL, 0);
        assert_string_equal(c->cmdline, arg);
        config_destroy(c);
        arg[n] = 'x';
    }
}

static void test_preset_and_override(void **state)
{
    const char *sets[] = { "com1.backend=null", "dbg.type=debug-exit", "dbg.port=0xf4" };
    struct config *c = must(BOOT "[vdev kbd]\ntype = none\n[vdev com1]\nirq = 5\n"
                                 "[vdev pit]\ntype = other\n",
                            sets, 3);
    const struct config_section *s = find(c, "com1");

    (void)state;
    assert_null(find(c, "kbd"));
    assert_non_null(s);
    assert_string_equal(config_find(s, "port")->value, "0x3f8");
    assert_string_equal(config_find(s, "port")->pos.file, "preset generation 1");
    assert_string_equal(config_find(s, "irq")->value, "5");
    assert_int_equal(config_find(s, "irq")->pos.line, 6);
    assert_string_equal(config_find(s, "backend")->value, "null");
    assert_string_equal(config_find(s, "backend")->pos.file, "--set com1.backend");
    assert_int_equal(config_find(s, "backend")->pos.line, 0);
    assert_int_equal(find(c, "pit")->nkeys, 1);
    assert_string_equal(config_find(find(c, "dbg"), "type")->value, "debug-exit");
    assert_true(find(c, "rtc")->preset);
    assert_false(s->preset);
    config_destroy(c);

    /* integration services for enlightened guests only */
    c = must(BOOT "[vdev kvp]\ntype = none\n", NULL, 0);
    assert_string_equal(config_find(find(c, "heartbeat"), "type")->pos.file, "preset enlightened");
    assert_null(find(c, "kvp"));
    config_destroy(c);
    sets[0] = "vm.enlightened=no";
    c = must(BOOT, sets, 1);
    assert_null(find(c, "heartbeat"));
    config_destroy(c);

    /* a device that becomes another one loses the preset's keys */
    c = must(BOOT "[vdev com1]\ntype = debugcon\n", NULL, 0);
    assert_int_equal(find(c, "com1")->nkeys, 1);
    config_destroy(c);
}

static void test_modules(void **state)
{
    struct config *c = must("[boot]\nfirmware = multiboot\nkernel = k\n"
                            "modules = /m/a one two , /m/b,/m/c   x=1\n",
                            NULL, 0);

    (void)state;
    assert_int_equal(c->nmodules, 3);
    assert_string_equal(c->modules[0].path, "/m/a");
    assert_string_equal(c->modules[0].args, "one two");
    assert_string_equal(c->modules[1].path, "/m/b");
    assert_string_equal(c->modules[1].args, "");
    assert_string_equal(c->modules[2].args, "x=1");
    config_destroy(c);
    refuse("[boot]\nfirmware=multiboot\nkernel=k\nmodules=a,,b\n", NULL,
           "/vms/a.ini:4: modules: empty entry (write 'FILE ARGUMENTS, FILE ARGUMENTS')");
}

static void test_grammar_errors(void **state)
{
    char *big = malloc(1 << 20);

    (void)state;
    refuse("memory = 1G\n", NULL, "/vms/a.ini:1: key outside a section; begin with [vm]");
    refuse("[vm\n", NULL, "/vms/a.ini:1: section header without ']'");
    refuse("[vm] x\n", NULL, "/vms/a.ini:1: text after ']'");
    refuse("[vm]\nmemory\n", NULL, "/vms/a.ini:2: neither '[section]' nor 'key = value'");
    refuse("[vm]\nmemory ; = 1\n", NULL, "/vms/a.ini:2: neither '[section]' nor 'key = value'");
    refuse("[vm]\n= 5\n", NULL, "/vms/a.ini:2: a value without a key");
    refuse("[vm]\n\n[vm]\n", NULL, "/vms/a.ini:3: section [vm] is already at line 1");
    refuse("[vm]\nname = a\n;\nname = b\n", NULL, "/vms/a.ini:4: 'name' is already set at line 2");
    refuse("[vm]\nname = \001\n", NULL, "/vms/a.ini:2: control character in the line");
    refuse_n("[vm]\nname = a\0b\n", 15, NULL,
             "/vms/a.ini:2: NUL byte in the line; this is not a text file");
    memset(big, 'a', 1 << 20);
    memcpy(big, "[vm]\nname=", 10);
    refuse_n(big, 1 << 20, NULL, "/vms/a.ini:2: line is 1048571 bytes long, the limit is 4095");
    memset(big, '[', 1 << 20);
    refuse_n(big, 1 << 20, NULL, "/vms/a.ini:1: line is 1048576 bytes long, the limit is 4095");
    memset(big, 'a', 200);
    big[0] = '[';
    big[200] = ']';
    refuse_n(big, 201, NULL, "/vms/a.ini:1: section name is longer than 31 characters");
    memcpy(big, "[vm]\n", 5);
    memset(big + 5, 'k', 200);
    memcpy(big + 205, "=1\n", 3);
    refuse_n(big, 208, NULL, "/vms/a.ini:2: key is too long");
    free(big);
}

static void test_meaning_errors(void **state)
{
    (void)state;
    refuse("[vmm]\n", NULL, "/vms/a.ini:1: unknown section [vmm] (did you mean [vm]?)");
    refuse("[vdevs com1]\n", NULL,
           "/vms/a.ini:1: unknown section [vdevs com1] (did you mean [vdev com1]?)");
    refuse("[xyzzy]\n", NULL,
           "/vms/a.ini:1: unknown section [xyzzy] (known: [vm], [boot], [enlightenments], [vdev "
           "NAME])");
    refuse("[vdev a.b]\n", NULL,
           "/vms/a.ini:1: bad device name 'a.b' (letters, digits, '-' and '_', at most 31)");
    refuse("[vdev vm]\n", NULL, "/vms/a.ini:1: a device cannot be named 'vm'");
    refuse("[vdev x]\nport=1\n" BOOT, NULL, "/vms/a.ini:1: [vdev x] has no 'type'");
    refuse("[vm]\nmemroy = 1G\n", NULL,
           "/vms/a.ini:2: unknown key 'memroy' in [vm] (did you mean 'memory'?)");
    refuse("[vm]\ncode_cache = much\n", NULL, "/vms/a.ini:2: code_cache: 'much' is not a size (as 32M)");
    refuse("[vm]\nnative = maybe\n", NULL, "/vms/a.ini:2: unknown native 'maybe' (known: auto, no, always)");
    refuse("[vm]\ncode_cache = 1M\n", NULL, "/vms/a.ini:2: code_cache: '1M' is not from 4M to 96M");
    refuse("[vm]\ncode_cache = 97M\n", NULL, "/vms/a.ini:2: code_cache: '97M' is not from 4M to 96M");
    refuse("[vm]\nmemory = 0\n", NULL, "/vms/a.ini:2: memory: '0' is too little, the least is 1M");
    refuse("[vm]\nmemory = 64G\n", NULL,
           "/vms/a.ini:2: memory: '64G' is more than this host has (8G)");
    refuse("[vm]\nmemory = 99999999999999T\n", NULL,
           "/vms/a.ini:2: memory: '99999999999999T' is more than this host has (8G)");
    refuse("[vm]\nmemory = 1000001\n", NULL,
           "/vms/a.ini:2: memory: '1000001' is too little, the least is 1M");
    refuse("[vm]\nmemory = 10000001\n", NULL,
           "/vms/a.ini:2: memory: '10000001' is not a multiple of 4K");
    refuse("[vm]\nmemory = -1\n", NULL, "/vms/a.ini:2: memory: '-1' is not a size (as 512M or 2G)");
    refuse("[vm]\nmemory =\n", NULL, "/vms/a.ini:2: memory: '' is not a size (as 512M or 2G)");
    refuse("[vm]\nprocessors = 65\n", NULL, "/vms/a.ini:2: processors: '65' is not in 1..64");
    refuse("[vm]\nprocessors = two\n", NULL, "/vms/a.ini:2: processors: 'two' is not a number");
    refuse("[vm]\nengine = itnerp\n", NULL,
           "/vms/a.ini:2: unknown engine 'itnerp' (did you mean 'interp'?)");
    refuse("[vm]\nengine = xen\n", NULL,
           "/vms/a.ini:2: unknown engine 'xen' (known: auto, kvm, jit, interp)");
    refuse("[vm]\ngeneration = 2\n", NULL,
           "/vms/a.ini:2: generation 2 is not available yet (use 1)");
    refuse("[vm]\nenlightened = perhaps\n", NULL,
           "/vms/a.ini:2: enlightened: 'perhaps' is neither yes nor no");
    refuse("[boot]\nfirmware = uefi\n", NULL,
           "/vms/a.ini:2: firmware 'uefi' is not available yet (use linux or multiboot)");
    refuse("[boot]\nfirmware = linuks\n", NULL,
           "/vms/a.ini:2: unknown firmware 'linuks' (did you mean 'linux'?)");
    refuse("[vm]\n[boot]\n", NULL,
           "/vms/a.ini:2: boot.kernel is not set (in [boot], or by --set boot.kernel=FILE)");
    refuse("[enlightenments]\nx = 1\n", NULL,
           "/vms/a.ini:2: unknown key 'x' in [enlightenments]");
    refuse("[enlightenments]\nsynics = no\n", NULL,
           "/vms/a.ini:2: unknown key 'synics' in [enlightenments] (did you mean 'synic'?)");
    refuse("[enlightenments]\nipi = 7\n", NULL, "/vms/a.ini:2: ipi: '7' is neither yes nor no");
    refuse("[vm]\nenlightened = no\n[enlightenments]\nipi = no\n", NULL,
           "/vms/a.ini:4: ipi: only with enlightened = yes");
}

static void test_set_errors(void **state)
{
    (void)state;
    refuse(BOOT, "vm.memory", "--set vm.memory: not of the form SECTION.KEY=VALUE");
    refuse(BOOT, "memory=1.5G", "--set memory=1.5G: not of the form SECTION.KEY=VALUE");
    refuse(BOOT, "vm.=1", "--set vm.=1: not of the form SECTION.KEY=VALUE");
    refuse(BOOT, "com11.backend=null",
           "--set com11.backend: no section or device 'com11' (did you mean 'com1'?)");
    refuse(BOOT, "vm.memory=0", "--set vm.memory: memory: '0' is too little, the least is 1M");
    refuse(BOOT, "vm.name=a\nb", "--set vm.name=a?b: control character in the value");
    refuse(BOOT, "vm.generation=3", "--set vm.generation: generation: '3' is not in 1..2");
}

static void test_values(void **state)
{
    uint64_t v = 7;
    bool b;

    (void)state;
    assert_int_equal(config_size("16", &v), 0);
    assert_true(v == 16);
    assert_int_equal(config_size("0x10k", &v), 0);
    assert_true(v == 16384);
    assert_int_equal(config_size("3t", &v), 0);
    assert_true(v == 3ULL << 40);
    assert_true(config_size("1MB", &v) < 0);
    assert_true(config_size("", &v) < 0);
    assert_true(config_size("+1", &v) < 0);
    assert_true(config_size("16777216T", &v) < 0);
    assert_int_equal(config_bool("TRUE", &b), 0);
    assert_true(b);
    assert_int_equal(config_bool("0", &b), 0);
    assert_false(b);
    assert_true(config_bool("", &b) < 0);
}

/* Any bytes: a verdict and one line. */
static void test_random(void **state)
{
    static const char *const pieces[] = { "[vm]", "[boot]", "\n",   "=",     "kernel", "memory",
                                          ";",    "[",      "]",    "vdev ", "1G",     " ",
                                          "\r",   "\xff",   "type", ":" };
    uint32_t seed = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        char text[400];
        size_t len = 0;
        struct config *c = NULL;
        struct diag d = { "" };
        int n = round % 40;

        while (n-- > 0) {
            seed = seed * 1664525 + 1013904223;
            const char *piece = pieces[(seed >> 16) % COUNT(pieces)];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
        }
        if (config_parse("a", text, len, NULL, 0, &limits, &c, &d) == 0)
            config_destroy(c);
        else
            assert_true(d.text[0] && !strchr(d.text, '\n'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain), cmocka_unit_test(test_enlightenments),
        cmocka_unit_test(test_long_value),
        cmocka_unit_test(test_preset_and_override),
        cmocka_unit_test(test_modules),
        cmocka_unit_test(test_grammar_errors),
        cmocka_unit_test(test_meaning_errors),
        cmocka_unit_test(test_set_errors),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
