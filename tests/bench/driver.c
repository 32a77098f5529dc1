/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs the rows of a plan one after the other and reports each between two lines that the host can time.
 * It is /init of the benchmark's initramfs, and the same program runs the same plan natively in a chroot.
 *
 * Usage: driver PLAN; as process 1 it mounts what programs expect, takes /bench/plan and switches the machine
 * off at the end.  A line of the plan: NAME <tab> N <tab> PREPARATION <tab> COMMAND, both for /bin/sh, which
 * run with N in the environment in an empty folder; "#limit SECONDS" for what a row may take, "#show" to print what
 * the rows print.  Output:
 *
 *   MOBO-BENCH begin NAME
 *   MOBO-BENCH end NAME CHECKSUM NANOSECONDS CPU-NANOSECONDS     the clock is CLOCK_MONOTONIC
 *   MOBO-BENCH fail NAME WHY
 *   MOBO-BENCH done
 *
 * The checksum is over all that the command prints. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define WORK "/tmp/row"
#define OUT "/tmp/out"

static unsigned limit = 600; /* seconds for one row before it counts as hung */

static void say(const char *text)
{
    size_t len = strlen(text), at = 0;

    while (at < len) {
        ssize_t n = write(1, text + at, len - at);

        if (n <= 0)
            return;
        at += (size_t)n;
    }
    tcdrain(1); /* the host times the line when it comes out, not when it is queued */
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* FNV-1a (64 bits) of a file; *tail gets its last line. */
static uint64_t checksum(const char *path, char *tail, size_t size)
{
    uint64_t h = 0xcbf29ce484222325u;
    static uint8_t buf[65536];
    size_t at = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0)
        for (ssize_t i = 0; i < n; i++) {
            h = (h ^ buf[i]) * 0x100000001b3u;
            if (buf[i] >= ' ' && buf[i] < 127 && at + 1 < size)
                tail[at++] = (char)buf[i];
            else if (buf[i] == '\n' && i + 1 < n)
                at = 0;
        }
    if (fd >= 0)
        close(fd);
    tail[at] = 0;
    return h;
}

static int show;

static void print_output(void)
{
    char buf[4097];
    int fd = open(OUT, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, buf, sizeof(buf) - 1) : 0;

    if (fd >= 0)
        close(fd);
    buf[n > 0 ? n : 0] = 0;
    say(buf);
}

static void on_alarm(int sig) { (void)sig; }

/* Run a shell command; its output goes to OUT.  Returns its wait status, -1 when it took too long. */
static int shell(const char *command)
{
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        return 127 << 8;
    if (pid == 0) {
        int in = open("/dev/null", O_RDONLY), out = open(OUT, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        setpgid(0, 0);
        if (out < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || (in >= 0 && dup2(in, 0) < 0))
            _exit(126);
        execl("/bin/sh", "sh", "-ec", command, (char *)NULL);
        _exit(127);
    }
    alarm(limit);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return 127 << 8;
        kill(-pid, SIGKILL);
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -1;
    }
    alarm(0);
    return status;
}

static uint64_t children_ns(void)
{
    struct rusage r;

    getrusage(RUSAGE_CHILDREN, &r);
    return ((uint64_t)r.ru_utime.tv_sec + (uint64_t)r.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)r.ru_utime.tv_usec + (uint64_t)r.ru_stime.tv_usec) * 1000u;
}

static void failed(const char *name, const char *step, int status, const char *tail)
{
    char line[512];

    snprintf(line, sizeof(line), "MOBO-BENCH fail %s %s: %s %d: %.300s\n", name, step,
             status < 0             ? "no end in sight"
             : WIFSIGNALED(status) ? "signal"
                                    : "status",
             status < 0             ? (int)limit
             : WIFSIGNALED(status) ? WTERMSIG(status)
                                    : WEXITSTATUS(status),
             tail);
    say(line);
}

static void row(char *line)
{
    char *name = strtok(line, "\t"), *n = strtok(NULL, "\t"), *prep = strtok(NULL, "\t"),
         *command = strtok(NULL, "\t"), text[256], tail[256];
    uint64_t start, ns, cpu, sum;
    int status;

    if (!command) {
        failed(name ? name : "?", "plan", 1 << 8, "not a line of a plan");
        return;
    }
    status = shell("cd /tmp; rm -rf " WORK "; mkdir " WORK);
    if (status || chdir(WORK)) {
        failed(name, "folder", status, "");
        return;
    }
    setenv("N", n, 1);
    if (strcmp(prep, "-") && (status = shell(prep))) {
        checksum(OUT, tail, sizeof(tail));
        failed(name, "preparation", status, tail);
        return;
    }
    snprintf(text, sizeof(text), "MOBO-BENCH begin %s\n", name);
    say(text);
    cpu = children_ns();
    start = now_ns();
    status = shell(command);
    ns = now_ns() - start;
    cpu = children_ns() - cpu;
    sum = checksum(OUT, tail, sizeof(tail));
    if (show)
        print_output();
    if (status) {
        failed(name, "command", status, tail);
        return;
    }
    snprintf(text, sizeof(text), "MOBO-BENCH end %s %016llx %llu %llu\n", name, (unsigned long long)sum,
             (unsigned long long)ns, (unsigned long long)cpu);
    say(text);
}

static void machine(void)
{
    int fd;

    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("tmpfs", "/tmp", "tmpfs", 0, "size=90%");
    fd = open("/dev/console", O_RDWR);
    if (fd >= 0)
        for (int i = 0; i < 3; i++)
            dup2(fd, i);
    if (fd > 2)
        close(fd);
}

int main(int argc, char **argv)
{
    const char *plan = argc > 1 && argv[1][0] == '/' ? argv[1] : "/bench/plan";
    static char line[8192];
    FILE *f;

    if (getpid() == 1)
        machine();
    clearenv();
    setenv("PATH", "/bench:/usr/bin:/usr/sbin", 1);
    setenv("LC_ALL", "C", 1);
    setenv("HOME", "/root", 1);
    setenv("PYTHONHASHSEED", "0", 1);
    setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
    f = fopen(plan, "re");
    say("\nMOBO-INIT\n");
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "#limit ", 7))
            limit = (unsigned)strtoul(line + 7, NULL, 10);
        else if (!strcmp(line, "#show"))
            show = 1;
        else if (line[0])
            row(line);
    }
    say(f ? "MOBO-BENCH done\n" : "MOBO-BENCH fail plan: cannot read it\n");
    if (getpid() == 1) {
        sync();
        reboot(RB_AUTOBOOT); /* both VMMs end at a reset: -no-reboot */
        for (;;)
            pause();
    }
    return f ? 0 : 1;
}
