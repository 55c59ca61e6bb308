/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to the few facts that the rest of the gate asks for: the transport layer. */
#pragma once

#include <linux/tcp.h>
#include <linux/udp.h>

#include "parse.h"

#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_SOURCE_QUENCH 4
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

/* RFC 4443; 1 to 4 are errors. */
#define ICMPV6_FIRST_ERROR 1
#define ICMPV6_LAST_ERROR 4
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ECHO_REPLY 129
#define ICMPV6_GROUP_QUERY 130 /* RFC 2710 */
#define ICMPV6_GROUP_REPORT 131
#define ICMPV6_GROUP_DONE 132
#define ICMPV6_ROUTER_SOLICITATION 133 /* RFC 4861 */
#define ICMPV6_ROUTER_ADVERTISEMENT 134
#define ICMPV6_NEIGHBOR_SOLICITATION 135
#define ICMPV6_NEIGHBOR_ADVERTISEMENT 136
#define ICMPV6_REDIRECT 137
#define ICMPV6_GROUP_REPORT_2 143 /* RFC 3810 */

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20
#define TCP_OPTION_END 0
#define TCP_OPTION_NOTHING 1
#define TCP_OPTION_SCALE 3
#define SCALE_OFFERED 0x80 /* beside the shift count */
#define SCALE_UNKNOWN 0x40 /* nobody has seen its SYN */
#define MAX_SCALE 14       /* RFC 7323, 2.3 */

#define SCTP_INIT 1
#define SCTP_INIT_ACK 2
#define SCTP_INIT_LENGTH 20 /* at least, of both */
#define SCTP_ABORT 6
#define SCTP_COOKIE_ECHO 10
#define SCTP_SHUTDOWN_COMPLETE 14
#define SCTP_REFLECTED 1 /* the T bit: the tag is the other side's */

#define ETHERNET_HEADER ((__u32)sizeof(struct ethhdr))

/* linux/icmp.h drags in headers of the host; this is the header of RFC 792 and RFC 4443. */
struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u16 echo_id;
	__u16 echo_sequence;
};

/* RFC 9260; an INIT or INIT ACK goes on with the tag that it asks for. */
struct sctp_header {
	__u16 source;
	__u16 target;
	__u32 tag;
	__u32 checksum;
	__u8 chunk;
	__u8 chunk_flags;
	__u16 chunk_length;
};

ALWAYS void set_ports(struct packet *p, int direction, __u16 source, __u16 target)
{
	p->key.local_port = direction == EGRESS ? source : target;
	p->key.remote_port = direction == EGRESS ? target : source;
	p->service = bpf_ntohs(target);
}

/* An echo that the VM asks for and one that it is asked for are two flows, whatever identifiers both ends choose. */
ALWAYS void set_echo(struct packet *p, int direction, int request, __u16 identifier)
{
	p->key.local_port = p->key.remote_port = identifier;
	p->key.asked = (direction == EGRESS) == request ? ASKED_BY_VM : ASKED_OF_VM;
}

ALWAYS int is_echo_request(__u8 protocol, __u8 type)
{
	return type == (protocol == IPPROTO_ICMP ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST);
}

ALWAYS int is_echo(__u8 protocol, __u8 type)
{
	return is_echo_request(protocol, type) ||
	       type == (protocol == IPPROTO_ICMP ? ICMP_ECHO_REPLY : ICMPV6_ECHO_REPLY);
}

ALWAYS int is_icmp(const struct packet *p)
{
	return p->key.protocol == IPPROTO_ICMP || p->key.protocol == IPPROTO_ICMPV6_MESSAGE;
}

ALWAYS int is_icmp_error(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMPV6_MESSAGE)
		return type >= ICMPV6_FIRST_ERROR && type <= ICMPV6_LAST_ERROR;
	return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* The packet that an ICMP error quotes went the other way. `p` becomes that packet: its key is asked for. An error goes
 * to whoever sent what it quotes, and nowhere else. */
APART int parse_quoted(struct __sk_buff *skb, struct packet *p, int direction)
{
	int back = direction == EGRESS ? INGRESS : EGRESS, reason;
	__u32 at, goes_to[4];
	__u16 ports[4];

	if (!p)
		return REASON_MALFORMED;
	at = p->offset + sizeof(struct icmp_header);
	__builtin_memcpy(goes_to, direction == EGRESS ? p->key.remote : p->key.local, sizeof(goes_to));
	p->related = 1;
	p->fragmented = p->piece = 0;
	if (p->key.protocol == IPPROTO_ICMP) {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
			return REASON_MALFORMED;
		map_ipv4(back == EGRESS ? p->key.local : p->key.remote, ip.saddr);
		map_ipv4(back == EGRESS ? p->key.remote : p->key.local, ip.daddr);
		p->piece = bpf_ntohs(ip.frag_off) & IP_OFFSET_MASK;
		p->key.protocol = ip.protocol;
		p->offset = at + ip.ihl * 4;
	} else {
		struct ipv6_header ip;

		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.version >> 4 != 6 || is_mapped(ip.source) ||
		    is_mapped(ip.target))
			return REASON_MALFORMED;
		__builtin_memcpy(back == EGRESS ? p->key.local : p->key.remote, ip.source, sizeof(ip.source));
		__builtin_memcpy(back == EGRESS ? p->key.remote : p->key.local, ip.target, sizeof(ip.target));
		p->key.protocol = ip.next;
		p->offset = at + sizeof(ip);
		p->left = IP_MAX_LENGTH;
		reason = walk_extensions(skb, p);
		if (reason)
			return reason;
	}
	if (p->piece)
		return REASON_FRAGMENT;
	p->fragmented = 0;
	/* RFC 792 promises 8 bytes of it. */
	if (bpf_skb_load_bytes(skb, p->offset, ports, sizeof(ports)))
		return REASON_MALFORMED;
	switch (p->key.protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		set_ports(p, back, ports[0], ports[1]);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6_MESSAGE: /* type and code, checksum, identifier */
		set_echo(p, back, is_echo_request(p->key.protocol, *(__u8 *)ports), ports[2]);
		break;
	}
	return same_address(goes_to, direction == EGRESS ? p->key.remote : p->key.local) ? REASON_NONE : REASON_NO_FLOW;
}

/* RFC 7323: a SYN says by how many bits its sender's windows are to be shifted. */
APART int find_scale(struct __sk_buff *skb, __u32 at, __u32 behind)
{
	for (int i = 0; i < 40; i++) {
		__u8 option[3];

		if (at >= behind || bpf_skb_load_bytes(skb, at, option, 1) || option[0] == TCP_OPTION_END)
			return 0;
		if (option[0] == TCP_OPTION_NOTHING) {
			at++;
			continue;
		}
		if (at + 2 > behind || bpf_skb_load_bytes(skb, at, option, 2) || option[1] < 2)
			return 0;
		if (option[0] == TCP_OPTION_SCALE && option[1] == 3) {
			if (at + 3 > behind || bpf_skb_load_bytes(skb, at, option, 3))
				return 0;
			return SCALE_OFFERED | (option[2] > MAX_SCALE ? MAX_SCALE : option[2]);
		}
		at += option[1];
	}
	return 0;
}

/* One bit for every combination of FIN, SYN, RST, PSH, ACK, URG that a stack sends: SYN, SYN ACK, RST, RST ACK, ACK and
 * FIN ACK, each with or without PSH and some with URG. */
#define FLAG_PAIR(flags) (1ULL << (flags) | 1ULL << ((flags) | TCP_PSH))
#define TCP_LEGAL                                                                                     \
	(FLAG_PAIR(TCP_SYN) | FLAG_PAIR(TCP_SYN | TCP_URG) | FLAG_PAIR(TCP_SYN | TCP_ACK) |           \
	 FLAG_PAIR(TCP_RST) | FLAG_PAIR(TCP_RST | TCP_ACK) | FLAG_PAIR(TCP_ACK) |                     \
	 FLAG_PAIR(TCP_ACK | TCP_URG) | FLAG_PAIR(TCP_FIN | TCP_ACK) | FLAG_PAIR(TCP_FIN | TCP_ACK | TCP_URG))

ALWAYS int parse_tcp(struct __sk_buff *skb, struct tcphdr *tcp, int direction, struct packet *p, int too_short)
{
	__u32 header = tcp->doff * 4;

	if (tcp->doff < 5)
		return REASON_MALFORMED;
	if (p->left < header)
		return too_short;
	set_ports(p, direction, tcp->source, tcp->dest);
	p->headers += header;
	p->payload = p->left - header;
	p->seq = bpf_ntohl(tcp->seq);
	p->ack = bpf_ntohl(tcp->ack_seq);
	p->window = bpf_ntohs(tcp->window);
	p->tcp_flags = ((__u8 *)tcp)[13];
	if (!(TCP_LEGAL >> (p->tcp_flags & 63) & 1))
		return REASON_TCP_FLAGS;
	p->opens = (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (p->tcp_flags & TCP_SYN)
		p->tcp_scale = find_scale(skb, p->offset + sizeof(*tcp), p->offset + header);
	return REASON_NONE;
}

ALWAYS int parse_sctp(struct __sk_buff *skb, struct sctp_header *sctp, int direction, struct packet *p)
{
	__u32 asks = 0;

	set_ports(p, direction, sctp->source, sctp->target);
	p->seq = sctp->tag;
	p->chunk = sctp->chunk;
	if (sctp->chunk == SCTP_INIT || sctp->chunk == SCTP_INIT_ACK) {
		if (p->left < 12 + SCTP_INIT_LENGTH || bpf_ntohs(sctp->chunk_length) < SCTP_INIT_LENGTH)
			return REASON_MALFORMED;
		if (bpf_skb_load_bytes(skb, p->offset + sizeof(*sctp), &asks, sizeof(asks)) || !asks)
			return REASON_MALFORMED;
		p->ack = asks;
	}
	p->opens = sctp->chunk == SCTP_INIT;
	if (p->opens && (sctp->tag || p->left != 12 + ((bpf_ntohs(sctp->chunk_length) + 3) & ~3)))
		return REASON_MALFORMED; /* RFC 9260, 4.3: an INIT carries tag 0 and comes alone */
	/* What ends an association is told as TCP's reset is. */
	if (sctp->chunk == SCTP_ABORT || sctp->chunk == SCTP_SHUTDOWN_COMPLETE)
		p->tcp_flags = TCP_RST | (sctp->chunk_flags & SCTP_REFLECTED ? TCP_URG : 0);
	return REASON_NONE;
}

/* What stands at `offset` of a whole datagram, or of its first fragment. */
ALWAYS int parse_transport(struct __sk_buff *skb, int direction, struct packet *p)
{
	/* The bound is for the verifier: extension headers end long before it. */
	__u32 at = p->offset & 0x3fff;
	int too_short = p->fragmented ? REASON_FRAGMENT_SHORT : REASON_MALFORMED;
	struct span span = reach(skb, at + sizeof(struct tcphdr));
	void *next = span.data + at;

	p->headers = at;
	switch (p->key.protocol) {
	case IPPROTO_TCP: {
		struct tcphdr *tcp = next;

		if (p->left < sizeof(*tcp) || (void *)(tcp + 1) > span.end)
			return too_short;
		return parse_tcp(skb, tcp, direction, p, too_short);
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = next;
		__u32 length;

		if (p->left < sizeof(*udp) || (void *)(udp + 1) > span.end)
			return too_short;
		set_ports(p, direction, udp->source, udp->dest);
		p->headers += sizeof(*udp);
		p->opens = 1;
		length = bpf_ntohs(udp->len);
		if (!skb->gso_size && (length < sizeof(*udp) || (length > p->left && !p->fragmented)))
			return REASON_MALFORMED;
		return REASON_NONE;
	}
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6_MESSAGE: {
		struct icmp_header *icmp = next;

		if (p->left < sizeof(*icmp) || (void *)(icmp + 1) > span.end)
			return too_short;
		p->service = icmp->type << 8 | icmp->code;
		p->headers += sizeof(*icmp);
		if (!is_echo(p->key.protocol, icmp->type))
			return REASON_NONE; /* an error or a message to neighbors: see inspect() */
		if (icmp->code) /* RFC 792 and RFC 4443 know no other than 0 */
			return REASON_ICMP_TYPE;
		p->opens = is_echo_request(p->key.protocol, icmp->type);
		set_echo(p, direction, p->opens, icmp->echo_id);
		return REASON_NONE;
	}
	case IPPROTO_SCTP: {
		struct sctp_header *sctp = next;

		if (p->left < sizeof(*sctp) || (void *)(sctp + 1) > span.end)
			return too_short;
		return parse_sctp(skb, sctp, direction, p);
	}
	default: /* no ports: one flow per pair of addresses */
		p->opens = 1;
		return REASON_NONE;
	}
}
