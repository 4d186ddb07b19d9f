/* lwIP as it is built for the benchmark: what smoltcp is there (IPv4, ARP, ICMP and TCP), and as many buffers. */

#ifndef LWIPOPTS_H
#define LWIPOPTS_H

/* No operating system, no threads: the raw API in one loop. */
#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN 0
#define LWIP_SOCKET 0

#define LWIP_UDP 0
#define LWIP_RAW 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define LWIP_STATS 0

/* As in a release build of smoltcp. */
#define LWIP_NOASSERT

/* BUFFER, bytes each way, comes from the command line of the compiler. More than 65,535 need the scale. */
#define TCP_MSS 1460
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 1
#define TCP_WND BUFFER
#define TCP_SND_BUF BUFFER

/* So that nothing but the two above is ever short. */
#define MEM_ALIGNMENT 8
#define MEM_SIZE (1 << 20)
#define MEMP_NUM_PBUF 1024
#define MEMP_NUM_TCP_SEG 1024
#define MEMP_NUM_TCP_PCB 8
#define PBUF_POOL_SIZE 1024

#endif
