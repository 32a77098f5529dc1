/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the heartbeat, and of what integration services have in common. */
#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void beat(uint64_t sequence)
{
    assert_true(take());
    assert_int_equal(wire_get(msg + M_TYPE, 2), 1);
    assert_int_equal(wire_get(msg + M_BODY, 8), sequence);
    wire_put(msg + M_BODY, sequence + 1, 8);
    answer_with(0);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_offer(void **state)
{
    const struct mobo_vmbus_offer *o = mobo_fake_vmbus_offer(dev, 0);
    static const uint8_t first[] = { 0x39, 0x4f, 0x16, 0x57, 0x15, 0x91 };

    (void)state;
    assert_memory_equal(o->class_id, first, sizeof(first));
    assert_int_equal(o->flags, MOBO_VMBUS_ENUMERATE_DEVICE | MOBO_VMBUS_PIPE);
    assert_int_equal(o->user_data[0], 4);
    has("no contact");
    check_state();
}

static void test_beats(void **state)
{
    (void)state;
    connect_ic(0x30000);
    beat(1);
    for (unsigned i = 1; i < 5; i++) {
        assert_false(take());
        mobo_fake_step(f, 2000000000);
        beat(2 * i + 1);
        has("status: ok");
    }
    has("heartbeats: 0x5");
    check_state();
}

static void test_lost_and_back(void **state)
{
    (void)state;
    connect_ic(0x10000);
    beat(1);
    mobo_fake_step(f, 2000000000);
    mobo_fake_step(f, 8000000000);
    has("status: ok");
    check_state();
    mobo_fake_step(f, 4000000000);
    has("status: lost");
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 1);
    beat(3);
    has("status: ok");
    mobo_fake_vmbus_close(dev, 0);
    has("no contact");
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX);
}

static void refused(const char *why)
{
    const char *got = mobo_fake_vmbus_fault(dev, 0);

    assert_non_null(got);
    assert_non_null(strstr(got, why));
    mobo_fake_vmbus_close(dev, 0);
    mobo_fake_reset(f);
}

static void test_hostile(void **state)
{
    uint8_t junk[40] = { 1, 0, 0, 0, 255, 255, 255, 255 };

    (void)state;
    connect_ic(0x30000);
    assert_true(take());
    send_msg(junk, sizeof(junk));
    refused("longer than its packet");
    connect_ic(0x30000);
    send_msg(junk, 24);
    refused("without its header");
    connect_ic(0x30000);
    assert_true(take());
    answer_with(0); /* a sequence number that did not grow */
    refused("sequence");
    connect_ic(0x30000);
    assert_true(take());
    msg[M_TYPE] = 4;
    answer_with(0);
    refused("another type");
    connect_ic(0x30000);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 0, 0, junk, 8, junk, 32);
    refused("unexpected type");
    /* versions */
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(take());
    nego_answer(0x30000, 0x50000);
    refused("was not offered");
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(take());
    wire_put(msg + M_BODY, 0, 4);
    answer_with(0);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    has("no common version");
    /* answers to nothing are counted, and said once */
    answer_with(0);
    answer_with(0);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    check_state();
}

static void test_no_room(void **state)
{
    (void)state;
    mobo_fake_vmbus_room(dev, 0, 0);
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_signal(dev, 0);
    assert_false(take());
    has("negotiating");
    check_state();
    mobo_fake_vmbus_room(dev, 0, 100);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(take());
    nego_answer(0x30000, 0x30000);
    beat(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_offer), T(test_beats), T(test_lost_and_back), T(test_hostile), T(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
