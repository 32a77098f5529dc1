/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs in the guest of tests/guests/dpdk.sh: answers ARP and ICMP echo requests on port 0 of DPDK until a line comes on
 * the standard input.  (DPDK's own testpmd leaves queues alone whose driver does not say that they run, and the one of
 * Debian 12 for netvsc does not.) */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

enum { BURST = 32, DESCRIPTORS = 512, MBUFS = 4095 };

static const uint8_t address[4] = { 10, 9, 0, 2 };

static void need(int ok, const char *what)
{
    if (ok)
        return;
    printf("DPDK-FAIL %s\n", what);
    exit(1);
}

static void swap(uint8_t *a, uint8_t *b, unsigned len)
{
    for (unsigned i = 0; i < len; i++) {
        uint8_t t = a[i];

        a[i] = b[i];
        b[i] = t;
    }
}

/* Turn a request into its answer.  @return 1: it is one. */
static int answer(uint8_t *f, unsigned len, const uint8_t mac[6])
{
    if (len >= 42 && !memcmp(f + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10) && !memcmp(f + 38, address, 4)) {
        f[21] = 2;
        memcpy(f + 32, f + 22, 10); /* who asked */
        memcpy(f + 22, mac, 6);
        memcpy(f + 28, address, 4);
    } else if (len >= 42 && !memcmp(f + 12, "\x08\0\x45", 3) && f[23] == 1 && f[34] == 8 && !memcmp(f + 30, address, 4)) {
        unsigned sum = (unsigned)(f[36] << 8 | f[37]) + 0x800; /* RFC 1624: the type goes from 8 to 0 */

        sum = (sum & 0xffff) + (sum >> 16);
        f[34] = 0;
        f[36] = (uint8_t)(sum >> 8);
        f[37] = (uint8_t)sum;
        swap(f + 26, f + 30, 4);
    } else {
        return 0;
    }
    memcpy(f, f + 6, 6);
    memcpy(f + 6, mac, 6);
    return 1;
}

int main(int argc, char **argv)
{
    struct rte_eth_conf conf = { 0 };
    struct rte_ether_addr mac;
    struct rte_mempool *pool;
    struct pollfd in = { 0, POLLIN, 0 };
    unsigned long rx = 0, tx = 0, turns = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    need(rte_eal_init(argc, argv) >= 0, "rte_eal_init");
    need(rte_eth_dev_count_avail() == 1, "no port");
    pool = rte_pktmbuf_pool_create("frames", MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    need(pool != NULL, "no memory for frames");
    need(!rte_eth_dev_configure(0, 1, 1, &conf), "configure");
    need(!rte_eth_rx_queue_setup(0, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool), "rx queue");
    need(!rte_eth_tx_queue_setup(0, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL), "tx queue");
    need(!rte_eth_dev_start(0), "start");
    need(!rte_eth_macaddr_get(0, &mac), "address");
    printf("DPDK-READY %02x:%02x:%02x:%02x:%02x:%02x\n", mac.addr_bytes[0], mac.addr_bytes[1], mac.addr_bytes[2],
           mac.addr_bytes[3], mac.addr_bytes[4], mac.addr_bytes[5]);
    while (++turns % 1024 || poll(&in, 1, 0) <= 0) {
        struct rte_mbuf *m[BURST];
        uint16_t n = rte_eth_rx_burst(0, 0, m, BURST), out = 0, sent;

        rx += n;
        for (uint16_t i = 0; i < n; i++) {
            if (m[i]->nb_segs == 1 && answer(rte_pktmbuf_mtod(m[i], uint8_t *), rte_pktmbuf_data_len(m[i]), mac.addr_bytes))
                m[out++] = m[i];
            else
                rte_pktmbuf_free(m[i]);
        }
        sent = rte_eth_tx_burst(0, 0, m, out); /* also without frames: takes what is done */
        tx += sent;
        while (sent < out)
            rte_pktmbuf_free(m[sent++]);
    }
    need(!rte_eth_dev_stop(0), "stop");
    need(!rte_eth_dev_close(0), "close");
    printf("DPDK-COUNT %lu received, %lu sent\n", rx, tx);
    return 0;
}
