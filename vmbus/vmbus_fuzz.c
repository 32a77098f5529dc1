/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for the VMBus: a guest with any message and any packet, and rings that it changes at any time. */
#include "vmbus/vmbus_guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len);

static void receive_all(struct vmbus_channel *ch)
{
    static struct vmbus_iov iov[64];
    struct vmbus_packet p;
    uint32_t n, max = 1000;
    uint64_t total;
    volatile uint8_t sum = 0;

    while (max-- && vmbus_receive(ch, &p) == 0) {
        for (uint32_t i = 0; i < p.desc_len; i++)
            sum ^= p.desc[i];
        for (uint32_t i = 0; i < p.len; i++)
            sum ^= p.data[i];
        (void)sum; /* read each byte, no more */
        if (vmbus_gpa_direct(ch, &p, iov, 64, &n, &total) == 0)
            for (uint32_t i = 0; i < n; i++)
                memset(iov[i].base, 1, iov[i].len);
        if (p.flags & 1)
            vmbus_send(ch, VMBUS_PKT_COMPLETION, 0, p.transaction, NULL, 0, "done", 4);
    }
}

/* A packet that is about right, in the ring of the first channel: what it is, its flags, then ranges of guest memory or
 * what it carries. */
static void put_packet(struct guest *g, const uint8_t *d, unsigned n)
{
    enum { SIZE = (G_RING - 1) * 4096, MOST = 1024 };
    struct ring_page *r = g_ring(g, false);
    uint32_t at = atomic_load(&r->write_index) % SIZE & ~7u, len = 16, desc;
    uint8_t p[MOST] = { 0 };

    if (d[0] & 1) { /* ranges: length, offset, how many page numbers are missing, the first page */
        len += 8;
        for (unsigned i = 2; i + 6 <= n; i += 6) {
            uint32_t bytes = d[i] | (d[i + 1] & 0x1fu) << 8, off = d[i + 2] | (d[i + 3] & 0x0fu) << 8;
            uint32_t pages = (off + bytes + 4095) / 4096;

            if (d[i + 4] & 0x80)
                off |= 0x1000;
            if ((d[i + 4] & 0x40) && pages)
                pages--;
            if (len + 8 + 8 * pages > MOST - 64)
                break;
            memcpy(p + len, &bytes, 4);
            memcpy(p + len + 4, &off, 4);
            len += 8;
            for (uint32_t k = 0; k < pages; k++, len += 8) {
                uint64_t pfn = d[i + 5] + (d[i + 4] & 0x20 ? k * 3 : k) + ((uint64_t)(d[i + 4] & 0x10) << 40);

                memcpy(p + len, &pfn, 8);
            }
            p[20]++;
        }
    }
    desc = len;
    p[0] = d[0] & 1 ? 9 : d[0] & 2 ? d[0] >> 4 : 6;
    p[2] = (uint8_t)(desc / 8);
    for (unsigned i = 2; !(d[0] & 1) && i < n; i++)
        p[len++] = d[i];
    len = (len + 7) & ~7u;
    p[4] = (uint8_t)(len / 8);
    p[6] = d[1];
    for (uint32_t i = 0; i < len + 8; i++, at = (at + 1) % SIZE)
        g->mem[4096 + at] = p[i];
    atomic_store(&r->write_index, at);
}

/* Input: records of one operation byte, one length byte, data. */
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t len)
{
    struct guest *g = g_new();
    struct vmbus_channel *ch[2] = { g_offer(g, 1), g_offer(g, 2) };
    uint8_t buf[256];

    g_connect(g, 0x50003);
    g_gpadl(g, 1, 5, 0, 8);
    g_open_channel(g, 1, 5);
    while (len >= 2) {
        unsigned op = in[0], n = in[1];
        uint8_t data[256] = { 0 };

        in += 2;
        len -= 2;
        if (n > len)
            n = (unsigned)len;
        memcpy(data, in, n);
        in += n;
        len -= n;
        switch (op % 8) {
        case 0:
        case 1: g_send(g, data, n > 240 ? 240 : n); break;
        case 2: { /* write guest memory: the ring pages most of all */
            uint16_t at;

            if (op & 0x80) {
                put_packet(g, data, n);
                break;
            }
            memcpy(&at, data, 2);
            if (n > 2)
                memcpy(g->mem + at % (8 * 4096 - 256), data + 2, n - 2);
            break;
        }
        case 3: { /* indices */
            struct ring_page *r = g_ring(g, data[0] & 1);
            uint32_t val;

            memcpy(&val, data + 1, 4);
            atomic_store(data[0] & 2 ? &r->write_index : data[0] & 4 ? &r->read_index : &r->pending_send_size,
                         data[0] & 8 ? val : val % (3 * 4096) & ~7u);
            break;
        }
        case 4:
            for (unsigned i = 0; i < 2; i++)
                if (ch[i])
                    receive_all(ch[i]);
            break;
        case 5:
            if (ch[data[0] & 1])
                vmbus_send(ch[data[0] & 1], data[1], data[2], 1, data, data[3] & 0xf8, data, data[4]);
            break;
        case 6: {
            uint32_t id, sz;
            uint64_t off;

            memcpy(&id, data, 4);
            memcpy(&off, data + 4, 8);
            memcpy(&sz, data + 12, 4);
            if (ch[0] && (data[16] & 1))
                vmbus_gpadl_write(ch[0], id, off, data, sz % 256);
            else if (ch[0])
                vmbus_gpadl_read(ch[0], id, off, buf, sz % 256);
            break;
        }
        default:
            vmbus_signal_event(g->v, data[0], VMBUS_CONNECTION_BASE + data[1], data[2]);
            if (op & 0x80)
                vmbus_monitor_poll(g->v);
            if (n > 200 && ch[1]) {
                vmbus_rescind(ch[1]);
                ch[1] = NULL;
            }
        }
        vmbus_service(g->v);
        g->nreplies = 0;
    }
    g_free(g);
    return 0;
}
