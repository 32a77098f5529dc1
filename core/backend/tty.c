/* SPDX-License-Identifier: BSD-2-Clause */
/* The terminal's mode: raw while the guest has it, and given back on every way out. */
#include "core/backend/backend.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t raw_fd = -1; /* the raw terminal, or -1 */
static struct termios saved, raw;         /* constant while raw_fd is not -1 */

bool tty_raw(int fd)
{
    if (raw_fd >= 0 || !isatty(fd))
        return false;
    if (tcgetpgrp(fd) != getpgrp()) /* changing it from the background would stop us */
        return false;
    if (tcgetattr(fd, &saved))
        return false;
    raw = saved;
    /* as cfmakeraw(), but output processing stays: our own messages end in a bare line feed */
    raw.c_iflag &= (tcflag_t) ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= (tcflag_t) ~(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & (tcflag_t) ~(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(fd, TCSANOW, &raw))
        return false;
    raw_fd = fd;
    return true;
}

void tty_restore(void)
{
    int fd = raw_fd, keep = errno;

    if (fd >= 0)
        tcsetattr(fd, TCSANOW, &saved);
    raw_fd = -1;
    errno = keep;
}

/* A fatal signal: the default action follows when this returns, as the handler is gone by then. */
static void on_fatal(int sig)
{
    tty_restore();
    raise(sig);
}

/* Stopped from outside: the shell gets its terminal back, and we take it again afterwards. */
static void on_stop(int sig)
{
    int fd = raw_fd, keep = errno;
    struct sigaction dfl = { .sa_handler = SIG_DFL }, was;
    sigset_t set;

    tty_restore();
    sigaction(sig, &dfl, &was);
    sigemptyset(&set);
    sigaddset(&set, sig);
    raise(sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* stops here */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigaction(sig, &was, NULL);
    if (fd >= 0 && tcgetpgrp(fd) == getpgrp() && tcsetattr(fd, TCSANOW, &raw) == 0)
        raw_fd = fd;
    errno = keep;
}

void tty_guard(void)
{
    static const int fatal[] = { SIGSEGV, SIGBUS,  SIGILL,  SIGFPE, SIGABRT,
                                 SIGSYS,  SIGTRAP, SIGXCPU, SIGXFSZ };
    struct sigaction sa = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND }, old;

    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < COUNT(fatal); i++) {
        /* somebody who handles it already (a sanitizer) knows better */
        if (sigaction(fatal[i], NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            sigaction(fatal[i], &sa, NULL);
    }
    sa.sa_handler = on_stop;
    sa.sa_flags = SA_RESTART;
    sigaction(SIGTSTP, &sa, NULL);
    atexit(tty_restore);
}
