/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Port security: a vNIC speaks with its own addresses only, and hears only what is meant for it. */
#pragma once

#include "parse.h"

ALWAYS int same_mac(const __u8 *a, const __u8 *b)
{
	/* Two loads a side: a six-byte memcmp becomes a call that does not load. */
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

ALWAYS int is_mine(const struct serai_vnic *vnic, __u32 address)
{
	struct serai_address_key key = { .vnic = vnic->id, .address = address };

	if (address == vnic->address)
		return 1;
	return vnic->flags & FLAG_MORE_ADDRESSES && bpf_map_lookup_elem(&addresses, &key);
}

ALWAYS int check_frame(const struct serai_vnic *vnic, const struct ethhdr *eth, int direction)
{
	if (direction == EGRESS)
		return same_mac(eth->h_source, vnic->mac) ? REASON_NONE : REASON_FOREIGN_MAC;
	/* A bridge floods frames for stations that it does not know; they are none of this VM's business. */
	if (!(eth->h_dest[0] & 1) && !same_mac(eth->h_dest, vnic->mac))
		return REASON_NOT_ADDRESSED;
	return REASON_NONE;
}

/* Sender address 0 is a probe (RFC 5227), and what QEMU announces a moved VM with (RARP). */
ALWAYS int check_arp(const struct serai_vnic *vnic, const struct arp_packet *arp, void *end, int direction,
		     struct packet *p)
{
	__u32 sender;

	if ((void *)(arp + 1) > end)
		return REASON_MALFORMED;
	__builtin_memcpy(&sender, arp->sender_address, sizeof(sender));
	if (direction == INGRESS)
		return REASON_NONE;
	p->local = sender;
	__builtin_memcpy(&p->remote, arp->target_address, sizeof(p->remote));
	if (!same_mac(arp->sender_mac, vnic->mac) || (sender && !is_mine(vnic, sender)))
		return REASON_FOREIGN_ARP;
	return REASON_NONE;
}

ALWAYS int check_addresses(const struct serai_vnic *vnic, const struct ethhdr *eth, const struct iphdr *ip,
			   int direction)
{
	if (direction == EGRESS)
		return is_mine(vnic, ip->saddr) ? REASON_NONE : REASON_FOREIGN_IP;
	if (eth->h_dest[0] & 1 || is_mine(vnic, ip->daddr)) /* a group address is for whoever listens */
		return REASON_NONE;
	return REASON_NOT_ADDRESSED;
}
