/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From bytes to the few facts that the rest of the gate asks for: the network layer. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define IP_OFFSET_MASK 0x1fff
#define IP_MORE_FRAGMENTS 0x2000
#define IP_MAX_LENGTH 65535
#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_LOOSE_ROUTE 131
#define OPTION_STRICT_ROUTE 137

#define IPPROTO_HOP_BY_HOP 0
#define IPPROTO_ROUTING_HEADER 43
#define IPPROTO_FRAGMENT_HEADER 44
#define IPPROTO_ICMPV6_MESSAGE 58
#define IPPROTO_DESTINATION_OPTIONS 60
#define IPPROTO_MOBILITY 135
#define IPPROTO_HIP 139
#define IPPROTO_SHIM6 140
#define MAX_EXTENSIONS 6

#define BEFORE_OPTIONS ((__u32)(sizeof(struct ethhdr) + sizeof(struct iphdr)))

/* RFC 8200; linux/ipv6.h drags in headers of the host. */
struct ipv6_header {
	__u8 version; /* in the upper half */
	__u8 flow[3];
	__u16 length;
	__u8 next;
	__u8 hops;
	__u32 source[4];
	__u32 target[4];
};

struct packet {
	struct serai_flow_key key;
	__u32 offset;  /* of what comes behind the network layer, from the start of the frame */
	__u32 left;    /* bytes from there to the end of the datagram, or of this fragment of it */
	__u32 id;      /* of a fragmented datagram */
	__u32 seq;     /* SCTP: the verification tag */
	__u32 ack;     /* SCTP: the tag that an INIT or INIT ACK asks for */
	__u32 payload; /* bytes behind the TCP header */
	__u32 piece;   /* where this fragment stands in its datagram, in bytes ... */
	__u32 size;    /* ... and how many there are of it */
	__u16 window;
	__u16 service; /* host order: the port that policy judges, or ICMP type * 256 + code */
	__u16 headers; /* bytes in front of the payload */
	__u8 mac[6];   /* the VM's end of the frame; its own where it goes to a group */
	__u8 group;    /* the frame goes to a group, or to all */
	__u8 hops;
	__u8 fragmented;
	__u8 torn; /* there is a fragment header, even if nothing is missing */
	__u8 more; /* fragments follow */
	__u8 nobody; /* the source address is 0.0.0.0 or :: */
	__u8 opens;   /* may open a flow */
	__u8 related; /* an ICMP error: the key is that of the packet it quotes */
	__u8 settled; /* a guard has let it through: policy is not asked */
	__u8 tcp_flags;
	__u8 tcp_scale;
	__u8 chunk; /* of SCTP, the first */
};

/* Packet pointers: `data` up to `end` can be read directly. */
struct span {
	void *data;
	void *end;
};

/* Have `bytes` of the frame, or all of it, where they can be read directly. Rarely they are not. */
ALWAYS struct span reach(struct __sk_buff *skb, __u32 bytes)
{
	struct span span = { (void *)(long)skb->data, (void *)(long)skb->data_end };

	if (span.data + bytes <= span.end || skb->len <= span.end - span.data)
		return span;
	bpf_skb_pull_data(skb, skb->len < bytes ? skb->len : bytes);
	span.data = (void *)(long)skb->data;
	span.end = (void *)(long)skb->data_end;
	return span;
}

ALWAYS void map_ipv4(__u32 *mapped, __u32 address)
{
	mapped[0] = mapped[1] = 0;
	mapped[2] = bpf_htonl(0xffff);
	mapped[3] = address;
}

ALWAYS int same_address(const __u32 *a, const __u32 *b)
{
	return a[3] == b[3] && a[2] == b[2] && a[1] == b[1] && a[0] == b[0];
}

ALWAYS int is_mapped(const __u32 *address)
{
	return !address[0] && !address[1] && address[2] == bpf_htonl(0xffff);
}

ALWAYS int is_link_local(const __u32 *address)
{
	return (address[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* RFC 791, 3.1. What routes a packet by its sender's wish could lead it past the gates of others. */
APART int check_options(struct __sk_buff *skb, __u32 length)
{
	__u32 at = 0;

	for (int i = 0; i < 40; i++) {
		__u8 kind, size;

		if (at >= length || bpf_skb_load_bytes(skb, BEFORE_OPTIONS + at, &kind, 1) || kind == OPTION_END)
			return REASON_NONE;
		if (kind == OPTION_LOOSE_ROUTE || kind == OPTION_STRICT_ROUTE)
			return REASON_IP_OPTIONS;
		if (kind == OPTION_NOTHING) {
			at++;
			continue;
		}
		if (bpf_skb_load_bytes(skb, BEFORE_OPTIONS + at + 1, &size, 1) || size < 2 || at + size > length)
			return REASON_MALFORMED;
		at += size;
	}
	return REASON_NONE;
}

/* Addresses are filled in as soon as they are known, so that a drop can be recorded with its remote end. */
ALWAYS int parse_ipv4(const struct __sk_buff *skb, struct span span, int direction, struct packet *p)
{
	struct iphdr *ip = span.data + sizeof(struct ethhdr);
	__u32 room = skb->len - sizeof(struct ethhdr), total, header, fragment;

	if ((void *)(ip + 1) > span.end || ip->version != 4 || ip->ihl < 5)
		return REASON_MALFORMED;
	map_ipv4(direction == EGRESS ? p->key.local : p->key.remote, ip->saddr);
	map_ipv4(direction == EGRESS ? p->key.remote : p->key.local, ip->daddr);
	p->key.protocol = ip->protocol;
	p->nobody = !ip->saddr;
	header = ip->ihl * 4;
	/* A GSO super-packet beyond 64 KB carries a total length of 0, and all of them are cut before the wire. */
	total = skb->gso_size ? room : bpf_ntohs(ip->tot_len);
	if (total < header || total > room)
		return REASON_MALFORMED;
	p->offset = sizeof(struct ethhdr) + header;
	p->left = total - header;
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & (IP_OFFSET_MASK | IP_MORE_FRAGMENTS)) {
		p->fragmented = 1;
		p->more = !!(fragment & IP_MORE_FRAGMENTS);
		p->piece = (fragment & IP_OFFSET_MASK) * 8;
		p->size = p->left;
		p->id = ip->id | ip->protocol << 16;
	}
	return REASON_NONE;
}

/* Goes on from the extension header of kind `key.protocol` at `offset`, right behind the IPv6 header. Behind a later
 * fragment's header there is no header at all. */
APART int walk_extensions(struct __sk_buff *skb, struct packet *p)
{
	if (!p)
		return REASON_MALFORMED;
	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		__u8 header[8];
		__u32 size;

		switch (p->key.protocol) {
		case IPPROTO_HOP_BY_HOP:
			if (i)
				return REASON_EXTENSION;
			break;
		case IPPROTO_ROUTING_HEADER:
		case IPPROTO_FRAGMENT_HEADER:
		case IPPROTO_AH:
		case IPPROTO_DESTINATION_OPTIONS:
			break;
		case IPPROTO_MOBILITY:
		case IPPROTO_HIP:
		case IPPROTO_SHIM6:
			return REASON_EXTENSION;
		default:
			return REASON_NONE;
		}
		if (i == MAX_EXTENSIONS)
			return REASON_EXTENSION;
		if (p->left < sizeof(header) || bpf_skb_load_bytes(skb, p->offset, header, sizeof(header)))
			return p->fragmented ? REASON_FRAGMENT_SHORT : REASON_MALFORMED;
		size = (header[1] + 1) * 8;
		if (p->key.protocol == IPPROTO_AH)
			size = (header[1] + 2) * 4; /* RFC 4302, 2.2 */
		/* Type 0 is gone (RFC 5095), and whatever is not at its end routes the packet by its sender's wish. */
		if (p->key.protocol == IPPROTO_ROUTING_HEADER && (header[2] == 0 || header[3] != 0))
			return REASON_EXTENSION;
		if (p->key.protocol == IPPROTO_FRAGMENT_HEADER) {
			__u16 fragment = header[2] << 8 | header[3];

			size = sizeof(header);
			if (p->torn)
				return REASON_EXTENSION;
			p->piece = fragment & ~7;
			p->more = fragment & 1;
			__builtin_memcpy(&p->id, header + 4, sizeof(p->id));
			p->size = p->left - size;
			p->torn = 1;
			p->fragmented = p->piece || p->more; /* else it is all there (RFC 6946) */
		}
		if (size > p->left)
			return p->fragmented ? REASON_FRAGMENT_SHORT : REASON_MALFORMED;
		p->key.protocol = header[0];
		p->offset += size;
		p->left -= size;
		if (p->piece)
			return REASON_NONE;
	}
	return REASON_EXTENSION;
}

/* The headers that most packets go on with: no need to walk. */
ALWAYS int is_transport(__u8 next)
{
	return next == IPPROTO_TCP || next == IPPROTO_UDP || next == IPPROTO_ICMPV6_MESSAGE;
}

ALWAYS int parse_ipv6(struct __sk_buff *skb, struct span span, int direction, struct packet *p)
{
	struct ipv6_header *ip = span.data + sizeof(struct ethhdr);
	__u32 room = skb->len - sizeof(struct ethhdr) - sizeof(*ip);

	if ((void *)(ip + 1) > span.end || ip->version >> 4 != 6)
		return REASON_MALFORMED;
	__builtin_memcpy(direction == EGRESS ? p->key.local : p->key.remote, ip->source, sizeof(ip->source));
	__builtin_memcpy(direction == EGRESS ? p->key.remote : p->key.local, ip->target, sizeof(ip->target));
	p->key.protocol = ip->next;
	p->nobody = !(ip->source[0] | ip->source[1] | ip->source[2] | ip->source[3]);
	p->hops = ip->hops;
	p->offset = sizeof(struct ethhdr) + sizeof(*ip);
	p->left = skb->gso_size ? room : bpf_ntohs(ip->length); /* as in IPv4 */
	/* In our maps that is how IPv4 addresses look: a packet must not pass for another. */
	if (is_mapped(ip->source))
		return direction == EGRESS ? REASON_FOREIGN_IP : REASON_MALFORMED;
	if (is_mapped(ip->target))
		return direction == EGRESS ? REASON_MALFORMED : REASON_NOT_ADDRESSED;
	return p->left > room ? REASON_MALFORMED : REASON_NONE;
}
