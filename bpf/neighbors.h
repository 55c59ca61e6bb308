/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* IPv6 neighbor discovery (RFC 4861): a VM speaks for itself, and only a router speaks for the link. */
#pragma once

#include "ports.h"

#define OPTION_SOURCE_LINK 1
#define OPTION_TARGET_LINK 2
#define MAX_OPTIONS 8

ALWAYS int is_neighbor_discovery(__u8 type)
{
	return type >= ICMPV6_ROUTER_SOLICITATION && type <= ICMPV6_REDIRECT;
}

/* Before it has an address a VM looks for routers, for others with the address that it wants, and joins groups. */
ALWAYS int may_be_nobodys(__u8 type)
{
	return type == ICMPV6_ROUTER_SOLICITATION || type == ICMPV6_NEIGHBOR_SOLICITATION ||
	       type == ICMPV6_GROUP_REPORT || type == ICMPV6_GROUP_DONE || type == ICMPV6_GROUP_REPORT_2;
}

/* The link serves itself with these; policy is about what connects endpoints. */
ALWAYS int is_link_service(__u8 type)
{
	return (type >= ICMPV6_GROUP_QUERY && type <= ICMPV6_REDIRECT) || type == ICMPV6_GROUP_REPORT_2;
}

/* Who names a link-layer address must name its own. */
ALWAYS int check_options_of_neighbor(struct __sk_buff *skb, const struct packet *p, __u32 at, __u32 behind)
{
	for (int i = 0; i < MAX_OPTIONS; i++) {
		__u8 option[8];

		if (at >= behind)
			return REASON_NONE;
		if (at + sizeof(option) > behind || bpf_skb_load_bytes(skb, at, option, sizeof(option)) || !option[1] ||
		    at + option[1] * 8 > behind)
			return REASON_MALFORMED;
		if ((option[0] == OPTION_SOURCE_LINK || option[0] == OPTION_TARGET_LINK) &&
		    (option[1] != 1 || !same_mac(option + 2, p->mac)))
			return REASON_FOREIGN_ND;
		at += option[1] * 8;
	}
	return at == behind ? REASON_NONE : REASON_MALFORMED;
}

/* Who listens to which group (RFC 2710, 3; RFC 3810, 5) is said on one link, by a link-local address or none. It is told
 * to groups; only a query may go to one station. Anything else would be a way past policy. */
ALWAYS int is_of_this_link(const struct packet *p, int direction)
{
	if (p->hops != 1 || !(p->nobody || is_link_local(direction == EGRESS ? p->key.local : p->key.remote)))
		return 0;
	return direction == INGRESS || (p->group && (p->key.remote[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000));
}

/* Who asks for a neighbor or advertises one names it; a router advertises itself. */
ALWAYS void sight_neighbor(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
			   __u8 type)
{
	struct address about = {};
	int kind;

	switch (type) {
	case ICMPV6_ROUTER_SOLICITATION:
		kind = SIGHTING_ROUTER_SOLICITATION;
		break;
	case ICMPV6_ROUTER_ADVERTISEMENT:
		kind = SIGHTING_ROUTER_ADVERTISEMENT;
		__builtin_memcpy(about.words, direction == EGRESS ? p->key.local : p->key.remote, sizeof(about));
		break;
	case ICMPV6_NEIGHBOR_SOLICITATION:
	case ICMPV6_NEIGHBOR_ADVERTISEMENT:
		kind = type == ICMPV6_NEIGHBOR_SOLICITATION ? SIGHTING_NEIGHBOR_SOLICITATION :
							      SIGHTING_NEIGHBOR_ADVERTISEMENT;
		if (p->left < 8 + sizeof(about) || bpf_skb_load_bytes(skb, p->offset + 8, &about, sizeof(about)))
			return;
		break;
	default:
		return;
	}
	sight(vnic, direction, kind, &about);
}

/* `p->offset` is where the ICMPv6 header stands. */
APART int check_neighbor(struct __sk_buff *skb, const struct serai_vnic *vnic, struct packet *p, int direction)
{
	__u32 target[4], options, behind;
	__u8 type;

	if (!vnic || !p)
		return REASON_MALFORMED;
	type = p->service >> 8;
	options = p->offset + 8;
	behind = p->offset + p->left;
	sight_neighbor(skb, vnic, p, direction, type);
	if (p->nobody && direction == EGRESS && !may_be_nobodys(type))
		return REASON_FOREIGN_IP;
	p->settled = 1;
	if (!is_neighbor_discovery(type))
		return is_of_this_link(p, direction) ? REASON_NONE : REASON_ND_UNSAFE;
	if (p->torn || p->hops != 255)
		return REASON_ND_UNSAFE;
	if (direction == INGRESS)
		return REASON_NONE;
	if (type == ICMPV6_ROUTER_ADVERTISEMENT || type == ICMPV6_REDIRECT)
		return vnic->flags & FLAG_ROUTER ? REASON_NONE : REASON_ROUTER;
	if (type != ICMPV6_ROUTER_SOLICITATION) {
		if (p->left < 24 || bpf_skb_load_bytes(skb, options, target, sizeof(target)))
			return REASON_MALFORMED;
		options += sizeof(target);
		/* Anyone may be asked for, but with no source address the question is a claim (RFC 4862, 5.4). */
		if ((type == ICMPV6_NEIGHBOR_ADVERTISEMENT || p->nobody) && !may_speak_as(vnic, target, p->mac))
			return REASON_FOREIGN_ND;
	}
	return check_options_of_neighbor(skb, p, options, behind);
}
