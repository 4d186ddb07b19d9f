/* What the benchmark compares device-serv with, too: lwIP as a board runs it, without an operating system (raw API, one
 * loop), and with frames from a TAP.
 *
 *     skiff-bench-lwip TAP ADDRESS/BITS GATEWAY BUFFER
 *
 * serves the ports that skiff-bench-baseline does (RFC 862 to 864) on a TAP that is there, with buffers of BUFFER
 * bytes, which it was compiled for:
 *
 * | port | what it does |
 * |---|---|
 * | 7 | sends back what comes |
 * | 9 | throws away what comes |
 * | 19 | sends without end, from memory that is not copied |
 */

#define _GNU_SOURCE /* ppoll */

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "lwip/etharp.h"
#include "lwip/init.h"
#include "lwip/netif.h"
#include "lwip/tcp.h"
#include "lwip/timeouts.h"
#include "netif/ethernet.h"

/* The longest frame: one of MTU bytes with its header. */
#define MTU 1500
#define FRAME (MTU + SIZEOF_ETH_HDR)

/* Frames that are taken before the timers have their turn. */
#define BURST 64

/* Pieces of a frame that is sent: headers, and what several writes have left in one segment. */
#define PIECES 64

static int tap;

static void fail(const char *what)
{
    fprintf(stderr, "skiff-bench-lwip: %s: %s\n", what, errno ? strerror(errno) : "not understood");
    exit(1);
}

/* lwIP's clock, in milliseconds. */
u32_t sys_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (u32_t)now.tv_sec * 1000 + (u32_t)(now.tv_nsec / 1000000);
}

/* Frames. */

static err_t send_frame(struct netif *netif, struct pbuf *frame)
{
    (void)netif;
    struct iovec pieces[PIECES];
    int count = 0;
    for (struct pbuf *piece = frame; piece != NULL; piece = piece->next) {
        if (count == PIECES) {
            return ERR_BUF;
        }
        pieces[count++] = (struct iovec){piece->payload, piece->len};
    }
    return writev(tap, pieces, count) == frame->tot_len ? ERR_OK : ERR_IF;
}

/* Takes a frame; false if there is none. */
static bool receive_frame(struct netif *netif)
{
    struct pbuf *frame = pbuf_alloc(PBUF_RAW, FRAME, PBUF_POOL);
    char lost[FRAME];
    ssize_t len = read(tap, frame != NULL ? frame->payload : lost, FRAME);
    if (len < 0 && errno != EAGAIN && errno != EINTR) {
        fail("a TAP");
    }
    if (frame != NULL && len > 0) {
        pbuf_realloc(frame, (u16_t)len);
        if (netif->input(frame, netif) == ERR_OK) {
            return true;
        }
    }
    if (frame != NULL) {
        pbuf_free(frame);
    }
    return len > 0;
}

static err_t set_up(struct netif *netif)
{
    netif->mtu = MTU;
    netif->hwaddr_len = ETH_HWADDR_LEN;
    memcpy(netif->hwaddr, (u8_t[]){2, 0, 0, 0, 0, 1}, ETH_HWADDR_LEN);
    netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    netif->output = etharp_output;
    netif->linkoutput = send_frame;
    return ERR_OK;
}

static void open_tap(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0) {
        fail(name);
    }
}

/* Connections. The argument of one is what it has still to send back. */

static err_t echo_sent(void *waiting, struct tcp_pcb *pcb, u16_t len)
{
    (void)len;
    struct pbuf *rest = waiting;
    while (rest != NULL) {
        u16_t n = (u16_t)LWIP_MIN(rest->len, tcp_sndbuf(pcb));
        /* What finds no room waits for the next acknowledgement. */
        if (n == 0 || tcp_write(pcb, rest->payload, n, TCP_WRITE_FLAG_COPY) != ERR_OK) {
            break;
        }
        tcp_recved(pcb, n);
        rest = pbuf_free_header(rest, n);
        tcp_arg(pcb, rest);
    }
    return ERR_OK;
}

/* The same behind the end of what the peer sends. */
static err_t echo_rest(void *waiting, struct tcp_pcb *pcb, u16_t len)
{
    echo_sent(waiting, pcb, len);
    return pcb->callback_arg == NULL ? tcp_close(pcb) : ERR_OK;
}

static err_t echo_came(void *waiting, struct tcp_pcb *pcb, struct pbuf *bytes, err_t error)
{
    (void)error;
    if (bytes == NULL) {
        tcp_sent(pcb, echo_rest);
        return echo_rest(waiting, pcb, 0);
    }
    if (waiting != NULL) {
        pbuf_cat(waiting, bytes);
        bytes = waiting;
    }
    tcp_arg(pcb, bytes);
    return echo_sent(bytes, pcb, 0);
}

static err_t discard_came(void *none, struct tcp_pcb *pcb, struct pbuf *bytes, err_t error)
{
    (void)none, (void)error;
    if (bytes == NULL) {
        return tcp_close(pcb);
    }
    tcp_recved(pcb, bytes->tot_len);
    pbuf_free(bytes);
    return ERR_OK;
}

static err_t chargen_sent(void *none, struct tcp_pcb *pcb, u16_t len)
{
    (void)none, (void)len;
    static const char zeros[0xffff];
    /* What finds no room has its turn with the next acknowledgement. */
    while (tcp_sndbuf(pcb) > 0 && tcp_write(pcb, zeros, (u16_t)LWIP_MIN(sizeof zeros, tcp_sndbuf(pcb)), 0) == ERR_OK) {
    }
    return ERR_OK;
}

static const struct service {
    u16_t port;
    tcp_recv_fn came;
    tcp_sent_fn sent;
} services[] = {{7, echo_came, echo_sent}, {9, discard_came, NULL}, {19, discard_came, chargen_sent}};

/* The connection is gone by now. */
static void failed(void *waiting, err_t error)
{
    (void)error;
    if (waiting != NULL) {
        pbuf_free(waiting);
    }
}

static err_t accepted(void *service, struct tcp_pcb *pcb, err_t error)
{
    if (error != ERR_OK) {
        return error;
    }
    const struct service *one = service;
    tcp_arg(pcb, NULL);
    tcp_recv(pcb, one->came);
    tcp_sent(pcb, one->sent);
    tcp_err(pcb, failed);
    /* As in skiff-bench-baseline. */
    tcp_nagle_disable(pcb);
    return one->sent != NULL ? one->sent(NULL, pcb, 0) : ERR_OK;
}

static void listen_to(const struct service *service)
{
    struct tcp_pcb *pcb = tcp_new();
    if (pcb == NULL || tcp_bind(pcb, IP_ADDR_ANY, service->port) != ERR_OK || (pcb = tcp_listen(pcb)) == NULL) {
        fail("a port");
    }
    tcp_arg(pcb, (void *)service);
    tcp_accept(pcb, accepted);
}

int main(int count, char **words)
{
    if (count != 5 || strtoul(words[4], NULL, 10) != BUFFER) {
        fprintf(stderr, "usage: TAP ADDRESS/BITS GATEWAY BUFFER; compiled for a BUFFER of %d\n", BUFFER);
        return 2;
    }
    char *slash = strchr(words[2], '/');
    unsigned long bits = slash != NULL ? strtoul(slash + 1, NULL, 10) : 0;
    ip4_addr_t address, gateway, mask = {bits >= 1 && bits <= 32 ? lwip_htonl(0xffffffffu << (32 - bits)) : 0};
    if (slash != NULL) {
        *slash = '\0';
    }
    if (mask.addr == 0 || !ip4addr_aton(words[2], &address) || !ip4addr_aton(words[3], &gateway)) {
        fail("an address");
    }
    srandom((unsigned)getpid());
    open_tap(words[1]);

    struct netif netif;
    lwip_init();
    if (netif_add(&netif, &address, &mask, &gateway, NULL, set_up, netif_input) == NULL) {
        fail("the interface");
    }
    netif_set_default(&netif);
    netif_set_up(&netif);
    for (size_t at = 0; at < sizeof services / sizeof services[0]; at++) {
        listen_to(&services[at]);
    }
    /* For whoever waits until it can be spoken to. */
    puts("ready");
    fflush(stdout);

    for (;;) {
        int taken = 0;
        while (taken < BURST && receive_frame(&netif)) {
            taken++;
        }
        sys_check_timeouts();
        if (taken < BURST) {
            u32_t wait = sys_timeouts_sleeptime();
            struct timespec limit = {wait / 1000, wait % 1000 * 1000000};
            struct pollfd frames = {.fd = tap, .events = POLLIN};
            /* ARP has a timer, so there is always one. */
            if (ppoll(&frames, 1, &limit, NULL) < 0 && errno != EINTR) {
                fail("ppoll");
            }
        }
    }
}
