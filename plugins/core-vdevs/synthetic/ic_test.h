/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's end of an integration service, for unit tests. */
#ifndef SYNTHETIC_IC_TEST_H
#define SYNTHETIC_IC_TEST_H

#include "plugins/core-vdevs/synthetic/wire.h"
#include "plugins/test.h"

enum { M_TYPE = 12, M_SIZE = 18, M_STATUS = 20, M_FLAGS = 25, M_BODY = 28 };

static uint8_t msg[16384]; /* the device's last message */
static uint32_t msg_len;

/* @return 1 with the next message of the device, 0: there is none. */
static inline int take(void)
{
    struct mobo_vmbus_packet p = { .size = sizeof(p) };

    do {
        if (!mobo_fake_vmbus_recv(dev, 0, &p))
            return 0;
    } while (p.type == MOBO_VMBUS_COMPLETION);
    assert_int_equal(p.type, MOBO_VMBUS_INBAND);
    assert_true(p.len <= sizeof(msg));
    memcpy(msg, p.data, p.len);
    msg_len = p.len;
    return 1;
}

static inline void send_msg(const void *buf, uint32_t len)
{
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, buf, len);
}

/* Send the last message back. */
static inline void answer_with(uint32_t status)
{
    wire_put(msg + M_STATUS, status, 4);
    msg[M_FLAGS] = 5;
    send_msg(msg, msg_len);
}

static inline void nego_answer(uint32_t framework, uint32_t version)
{
    wire_put(msg + M_BODY, 1, 2);
    wire_put(msg + M_BODY + 2, 1, 2);
    wire_put(msg + M_BODY + 8, framework >> 16 | framework << 16, 4);
    wire_put(msg + M_BODY + 12, version >> 16 | version << 16, 4);
    answer_with(0);
}

/* Open the channel and agree on @version. */
static inline void connect_ic(uint32_t version)
{
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_true(take());
    assert_int_equal(wire_get(msg + M_TYPE, 2), 0);
    assert_int_equal(wire_get(msg, 4), 1);
    assert_int_equal(wire_get(msg + 4, 4) + 8, 28 + wire_get(msg + M_SIZE, 2));
    assert_int_equal(msg[M_FLAGS], 3);
    assert_int_equal(wire_get(msg + M_BODY, 2), 2);
    nego_answer(0x30000, version);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
}

static inline int cmd(const char *verb, const char *arg)
{
    char ret[256];

    return mobo_fake_command(dev, verb, arg, ret, sizeof(ret));
}

static inline void has(const char *text)
{
    char *all = mobo_fake_inspect(dev);

    if (!all || !strstr(all, text))
        fail_msg("no '%s' in the report:\n%s", text, all ? all : "");
    free(all);
}

#endif
