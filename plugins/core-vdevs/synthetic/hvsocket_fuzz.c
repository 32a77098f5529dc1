/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for hvsocket: a guest with any packet in any state, programs of the host that come, write, read
 * and go, time, resets, saved states with changed bytes. */
#include <mobo/vdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sdk/test/mobo_fakehost.h"
#include "tests/fuzz/input.h"
#include "wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { CLIENTS = 6, BIG = 16384 };

static const uint8_t tail[12] = { 0xcb, 0xfa, 0xe6, 0x11, 0xbd, 0x58,
                                  0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3 };

static struct sockaddr_un address(const char *folder, const char *suffix)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/s%s", folder, suffix);
    return a;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char folder[] = "/tmp/hvsocket_fuzz.XXXXXX", path[64];
    const char *params[] = { path, "connections=5", "timeout=2", NULL };
    int client[CLIENTS], server = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct mobo_fake *f = mobo_fake_create();
    struct input in = { data, len };
    struct mobo_vdev *dev;
    struct sockaddr_un a;

    if (server < 0 || !mkdtemp(folder))
        abort();
    snprintf(path, sizeof(path), "path=%s/s", folder);
    a = address(folder, "_7");
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", params);
    if (!dev || bind(server, (struct sockaddr *)&a, sizeof(a)) || listen(server, 4))
        abort();
    for (unsigned i = 0; i < CLIENTS; i++)
        client[i] = -1;
    for (unsigned step = 0; in.left && step < 200; step++) {
        uint32_t op = take(&in, 1), which = take(&in, 1), channels = mobo_fake_vmbus_count(dev);
        uint32_t n = channels ? which % channels : 0;
        int *fd = &client[which % CLIENTS];
        struct mobo_vmbus_packet p = { .size = sizeof(p) };
        uint8_t m[512];
        char text[512];
        uint32_t size, status;

        switch (op % 12) {
        case 0: /* a program connects */
            if (*fd >= 0)
                close(*fd);
            *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
            a = address(folder, "");
            if (connect(*fd, (struct sockaddr *)&a, sizeof(a))) {
                close(*fd);
                *fd = -1;
            }
            break;
        case 1: /* and says what it should, or something else */
            size = (uint32_t)snprintf(text, sizeof(text), "CONNECT %u\n", take(&in, 4));
            if (op & 0x80)
                for (size = 0; size < op % 60; size++)
                    text[size] = (char)take(&in, 1);
            if (*fd >= 0)
                (void)!send(*fd, text, size, MSG_NOSIGNAL);
            break;
        case 2:
            if (*fd >= 0)
                for (size = op & 0x80 ? 1000 : 1; size && read(*fd, text, sizeof(text)) > 0; size--)
                    ;
            break;
        case 3:
            if (*fd >= 0 && !(op & 0x10)) {
                shutdown(*fd, op & 0x20 ? SHUT_WR : SHUT_RDWR);
            } else if (*fd >= 0) {
                close(*fd);
                *fd = -1;
            }
            break;
        case 4: /* the guest connects */
            for (unsigned i = 0; i < 16; i++)
                m[i] = m[16 + i] = i < 4 ? (uint8_t)take(&in, 1) : tail[i - 4];
            if (!(op & 0x80))
                wire_put(m + 16, 7, 4);
            if (op & 0x40)
                m[15] ^= 1;
            (void)mobo_fake_vmbus_connect(dev, m, m + 16, &status);
            break;
        case 5: *fd = *fd >= 0 ? *fd : accept4(server, NULL, NULL, SOCK_NONBLOCK); break;
        case 6:
            if (channels)
                (void)mobo_fake_vmbus_open(dev, n, NULL);
            break;
        case 7:
        case 8: /* a packet, or more than a program takes that does not read */
            if (op >= 200) {
                static uint8_t big[8 + BIG];

                wire_put(big, 1, 4);
                wire_put(big + 4, BIG, 4);
                for (size = take(&in, 1) % 64; size && channels && mobo_fake_vmbus_offer(dev, n); size--)
                    mobo_fake_vmbus_queue(dev, n, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, big, sizeof(big));
                if (channels && mobo_fake_vmbus_offer(dev, n))
                    mobo_fake_vmbus_signal(dev, n);
                break;
            }
            size = take(&in, 1);
            wire_put(m, op & 0x80 ? take(&in, 4) : 1, 4);
            wire_put(m + 4, op & 0x40 ? take(&in, 4) : size, 4);
            memset(m + 8, 'g', size);
            if (channels && mobo_fake_vmbus_offer(dev, n))
                mobo_fake_vmbus_send(dev, n, op & 0x20 ? take(&in, 1) : MOBO_VMBUS_INBAND, 0, 0, NULL, 0,
                                     m, op & 0x10 ? take(&in, 1) : 8 + size);
            break;
        case 9:
            if (!channels)
                break;
            if (op & 0x80)
                mobo_fake_vmbus_close(dev, n);
            else
                mobo_fake_vmbus_room(dev, n, op & 0x40 ? UINT32_MAX : take(&in, 1));
            while (mobo_fake_vmbus_recv(dev, n, &p))
                if (p.type != MOBO_VMBUS_INBAND || p.len < 8 || wire_get(p.data, 4) != 1 ||
                    wire_get(p.data + 4, 4) > p.len - 8)
                    abort();
            break;
        case 10: mobo_fake_step(f, (uint64_t)take(&in, 1) * 50000000); break;
        default:
            if (op & 0x80)
                mobo_fake_reset(f);
            else if (mobo_fake_roundtrip(dev))
                abort();
        }
        mobo_fake_work(f);
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        if (client[i] >= 0)
            close(client[i]);
    close(server);
    free(mobo_fake_inspect(dev));
    mobo_fake_destroy(f);
    a = address(folder, "_7");
    unlink(a.sun_path);
    if (rmdir(folder)) /* the device cleans up behind itself */
        abort();
    return 0;
}
