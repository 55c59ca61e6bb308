/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Port security: a vNIC speaks with its own addresses only, and hears only what is meant for it. */
#pragma once

#include "parse.h"

#define ARPHRD_ETHER 1
#define RARP_REQUEST 3 /* RFC 903 */

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
ALWAYS int check_arp(const struct serai_vnic *vnic, const struct arp_packet *arp, void *end, int reverse,
		     int direction, struct packet *p)
{
	__u32 sender;

	if ((void *)(arp + 1) > end || arp->hardware_type != bpf_htons(ARPHRD_ETHER) ||
	    arp->protocol_type != bpf_htons(ETH_P_IP) || arp->hardware_length != 6 || arp->protocol_length != 4)
		return REASON_MALFORMED;
	__builtin_memcpy(&sender, arp->sender_address, sizeof(sender));
	if (direction == INGRESS)
		return REASON_NONE;
	p->local = sender;
	__builtin_memcpy(&p->remote, arp->target_address, sizeof(p->remote));
	if (!same_mac(arp->sender_mac, vnic->mac) || (sender && !is_mine(vnic, sender)))
		return REASON_FOREIGN_ARP;
	if (reverse && (arp->operation != bpf_htons(RARP_REQUEST) || !same_mac(arp->target_mac, vnic->mac)))
		return REASON_FOREIGN_ARP; /* a VM asks for itself, and answers for nobody */
	return REASON_NONE;
}

ALWAYS int check_addresses(const struct serai_vnic *vnic, const struct ethhdr *eth, const struct iphdr *ip,
			   int direction)
{
	struct serai_endpoint_key holder = { .view = vnic->view, .address = ip->daddr };

	if (direction == EGRESS)
		return is_mine(vnic, ip->saddr) ? REASON_NONE : REASON_FOREIGN_IP;
	if (is_mine(vnic, ip->daddr))
		return REASON_NONE;
	/* A group frame is for whoever listens. But a sender that may talk to one VM must not reach all others by
	 * writing its address into a broadcast. */
	if (eth->h_dest[0] & 1 && ip->protocol != IPPROTO_TCP && !bpf_map_lookup_elem(&endpoints, &holder))
		return REASON_NONE;
	return REASON_NOT_ADDRESSED;
}
