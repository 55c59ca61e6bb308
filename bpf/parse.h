/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to the few facts that the rest of the gate asks for. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* linux/icmp.h drags in headers of the host; this is RFC 792's header. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u16 echo_id;
	__u16 echo_sequence;
};

/* RFC 826 for Ethernet and IPv4; RARP (RFC 903) has the same form. */
struct arp_packet {
	__u16 hardware_type;
	__u16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__u16 operation;
	__u8 sender_mac[6];
	__u8 sender_address[4];
	__u8 target_mac[6];
	__u8 target_address[4];
} __attribute__((packed));

struct packet {
	__u32 local; /* the VM's end, whichever way the packet goes */
	__u32 remote;
	__u16 local_port; /* for ICMP echo both are the identifier */
	__u16 remote_port;
	__u16 service; /* host order: the port that policy judges, or ICMP type * 256 + code */
	__u16 headers; /* bytes in front of the payload */
	__u8 protocol;
	__u8 asked;
	__u8 tcp_flags;
	__u8 opens;   /* may open a flow */
	__u8 related; /* an ICMP error: the fields above are those of the packet it quotes */
};

ALWAYS void set_ports(struct packet *p, int direction, __u16 source, __u16 target)
{
	p->local_port = direction == EGRESS ? source : target;
	p->remote_port = direction == EGRESS ? target : source;
	p->service = bpf_ntohs(target);
}

/* An echo that the VM asks for and one that it is asked for are two flows, whatever identifiers both ends choose. */
ALWAYS void set_echo(struct packet *p, int direction, __u8 type, __u16 identifier)
{
	p->local_port = p->remote_port = identifier;
	p->asked = (direction == EGRESS) == (type == ICMP_ECHO_REQUEST) ? ASKED_BY_VM : ASKED_OF_VM;
}

/* The packet that an ICMP error quotes went the other way (RFC 792: IP header and 8 bytes at least). */
ALWAYS int parse_quoted(struct __sk_buff *skb, __u32 offset, int direction, struct packet *p)
{
	int back = direction == EGRESS ? INGRESS : EGRESS;
	struct iphdr ip;
	__u16 ports[4];

	if (bpf_skb_load_bytes(skb, offset, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return REASON_MALFORMED;
	if (ip.frag_off & bpf_htons(IP_OFFSET_MASK))
		return REASON_FRAGMENT;
	if (bpf_skb_load_bytes(skb, offset + ip.ihl * 4, ports, sizeof(ports)))
		return REASON_MALFORMED;
	p->related = 1;
	p->protocol = ip.protocol;
	p->local = back == EGRESS ? ip.saddr : ip.daddr;
	p->remote = back == EGRESS ? ip.daddr : ip.saddr;
	if (ip.protocol == IPPROTO_TCP || ip.protocol == IPPROTO_UDP)
		set_ports(p, back, ports[0], ports[1]);
	else if (ip.protocol == IPPROTO_ICMP)
		set_echo(p, back, *(__u8 *)ports, ports[2]); /* type and code, checksum, identifier */
	return REASON_NONE;
}

/* `target` is where the packet itself goes: an error goes to whoever sent what it quotes, and nowhere else. */
ALWAYS int parse_icmp(struct __sk_buff *skb, struct icmp_header *icmp, void *end, __u32 offset, __u32 target,
		      int direction, struct packet *p)
{
	int reason;

	if ((void *)(icmp + 1) > end)
		return REASON_MALFORMED;
	p->service = icmp->type << 8 | icmp->code;
	switch (icmp->type) {
	case ICMP_ECHO_REQUEST:
	case ICMP_ECHO_REPLY:
		if (icmp->code) /* RFC 792 knows no other than 0 */
			return REASON_ICMP_TYPE;
		set_echo(p, direction, icmp->type, icmp->echo_id);
		p->opens = icmp->type == ICMP_ECHO_REQUEST;
		return REASON_NONE;
	case ICMP_UNREACHABLE:
	case ICMP_SOURCE_QUENCH:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		reason = parse_quoted(skb, offset + sizeof(*icmp), direction, p);
		if (reason)
			return reason;
		return target == (direction == EGRESS ? p->remote : p->local) ? REASON_NONE : REASON_NO_FLOW;
	default:
		return REASON_ICMP_TYPE;
	}
}

/* Addresses are filled in as soon as they are known, so that a drop can be recorded with its remote end. */
ALWAYS int parse_ipv4(struct __sk_buff *skb, struct iphdr *ip, void *end, int direction,
		      struct packet *p)
{
	__u32 total, header;
	void *next;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return REASON_MALFORMED;
	p->protocol = ip->protocol;
	p->local = direction == EGRESS ? ip->saddr : ip->daddr;
	p->remote = direction == EGRESS ? ip->daddr : ip->saddr;
	header = ip->ihl * 4;
	total = bpf_ntohs(ip->tot_len);
	/* A GSO super-packet beyond 64 KB carries a total length of 0: its segments are checked by the sender. */
	if (!skb->gso_size && (total < header || total > skb->len - sizeof(struct ethhdr)))
		return REASON_MALFORMED;
	if (ip->frag_off & bpf_htons(IP_OFFSET_MASK | IP_MORE_FRAGMENTS))
		return REASON_FRAGMENT;

	next = (void *)ip + header;
	p->headers = sizeof(struct ethhdr) + header;
	switch (ip->protocol) {
	case IPPROTO_TCP: {
		struct tcphdr *tcp = next;
		if ((void *)(tcp + 1) > end || tcp->doff < 5 || (!skb->gso_size && total < header + tcp->doff * 4))
			return REASON_MALFORMED;
		set_ports(p, direction, tcp->source, tcp->dest);
		p->headers += tcp->doff * 4;
		p->tcp_flags = ((__u8 *)tcp)[13];
		p->opens = (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
		return REASON_NONE;
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = next;
		if ((void *)(udp + 1) > end || (!skb->gso_size && total < header + sizeof(*udp)))
			return REASON_MALFORMED;
		set_ports(p, direction, udp->source, udp->dest);
		p->headers += sizeof(*udp);
		p->opens = 1;
		return REASON_NONE;
	}
	case IPPROTO_ICMP:
		return parse_icmp(skb, next, end, p->headers, ip->daddr, direction, p);
	default: /* no ports: one flow per pair of addresses */
		p->opens = 1;
		return REASON_NONE;
	}
}
