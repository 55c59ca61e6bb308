/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Port security: a vNIC speaks with its own addresses only, and hears only what is meant for it. */
#pragma once

#include "sightings.h"
#include "transport.h"

#define ARPHRD_ETHER 1
#define ARP_REQUEST 1
#define ARP_REPLY 2
#define RARP_REQUEST 3       /* RFC 903 */
#define ETHERTYPE_FIRST 0x600 /* below it the field is a length (IEEE 802.3) */

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

ALWAYS int same_mac(const __u8 *a, const __u8 *b)
{
	const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;

	/* A six-byte memcmp becomes a call that does not load, and on the stack nothing wider is aligned for certain. */
	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

ALWAYS int is_other_mac(const struct serai_vnic *vnic, const __u8 *mac)
{
	struct serai_mac_key key = { .vnic = vnic->id };

	__builtin_memcpy(key.mac, mac, sizeof(key.mac));
	return bpf_map_lookup_elem(&macs, &key) != NULL;
}

ALWAYS int is_own_mac(const struct serai_vnic *vnic, const __u8 *mac)
{
	return same_mac(mac, vnic->mac) || (vnic->flags & FLAG_MORE_MACS && is_other_mac(vnic, mac));
}

ALWAYS int is_bound(const struct serai_vnic *vnic, const __u32 *address, const __u8 *mac)
{
	struct serai_address_key key = { .length = 128 + 128, .vnic = { vnic->id, vnic->id >> 32 } };

	__builtin_memcpy(key.mac, mac, sizeof(key.mac));
	__builtin_memcpy(key.address, address, sizeof(key.address));
	return bpf_map_lookup_elem(&addresses, &key) != NULL;
}

ALWAYS int is_in_record(const struct serai_vnic *vnic, const __u32 *address)
{
	return same_address(address, vnic->address[0]) || same_address(address, vnic->address[1]) ||
	       same_address(address, vnic->address[2]);
}

/* May it speak as `address`, and hear what is for it, with `mac`, which is one of its own? */
ALWAYS int may_speak_as(const struct serai_vnic *vnic, const __u32 *address, const __u8 *mac)
{
	if (is_in_record(vnic, address) && same_mac(mac, vnic->mac))
		return 1;
	return vnic->flags & FLAG_MORE_ADDRESSES && is_bound(vnic, address, mac);
}

ALWAYS int is_tag(__u16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

ALWAYS int check_macs(const struct serai_vnic *vnic, const struct ethhdr *eth, int direction, struct packet *p)
{
	p->group = eth->h_dest[0] & 1;
	if (direction == EGRESS)
		__builtin_memcpy(p->mac, eth->h_source, sizeof(p->mac));
	else
		__builtin_memcpy(p->mac, p->group ? vnic->mac : eth->h_dest, sizeof(p->mac));
	if (is_own_mac(vnic, p->mac))
		return REASON_NONE;
	if (is_tag(eth->h_proto))
		return REASON_VLAN; /* whoever it is from */
	/* A bridge floods frames for stations that it does not know; they are none of this VM's business. */
	return direction == EGRESS ? REASON_FOREIGN_MAC : REASON_NOT_ADDRESSED;
}

/* What is neither IP nor ARP. */
APART int check_ethertype(const struct serai_vnic *vnic, __u16 ethertype)
{
	if (!vnic)
		return REASON_ETHERTYPE;
	if (is_tag(ethertype))
		return REASON_VLAN;
	if (bpf_ntohs(ethertype) < ETHERTYPE_FIRST)
		return REASON_LLC;
	for (int i = 0; i < ETHERTYPES; i++)
		if (ethertype == vnic->ethertypes[i])
			return REASON_NONE;
	return REASON_ETHERTYPE;
}

ALWAYS void sight_arp(const struct serai_vnic *vnic, const struct arp_packet *arp, int direction)
{
	int asks = arp->operation == bpf_htons(ARP_REQUEST);
	struct address about;
	__u32 address;

	if (!asks && arp->operation != bpf_htons(ARP_REPLY))
		return;
	__builtin_memcpy(&address, asks ? arp->target_address : arp->sender_address, sizeof(address));
	map_ipv4(about.words, address);
	sight(vnic, direction, asks ? SIGHTING_ARP_REQUEST : SIGHTING_ARP_REPLY, &about);
}

/* Sender address 0 is a probe (RFC 5227), and what QEMU announces a moved VM with (RARP). */
APART int check_arp(struct __sk_buff *skb, const struct serai_vnic *vnic, struct packet *p, int reverse, int direction)
{
	struct arp_packet arp;
	__u32 sender, target;

	if (!vnic || !p || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &arp, sizeof(arp)) ||
	    arp.hardware_type != bpf_htons(ARPHRD_ETHER) || arp.protocol_type != bpf_htons(ETH_P_IP) ||
	    arp.hardware_length != 6 || arp.protocol_length != 4)
		return REASON_MALFORMED;
	if (!reverse)
		sight_arp(vnic, &arp, direction);
	if (direction == INGRESS)
		return REASON_NONE;
	__builtin_memcpy(&sender, arp.sender_address, sizeof(sender));
	__builtin_memcpy(&target, arp.target_address, sizeof(target));
	map_ipv4(p->key.local, sender);
	map_ipv4(p->key.remote, target);
	if (!same_mac(arp.sender_mac, p->mac) || (sender && !may_speak_as(vnic, p->key.local, p->mac)))
		return REASON_FOREIGN_ARP;
	if (reverse && (arp.operation != bpf_htons(RARP_REQUEST) || !same_mac(arp.target_mac, p->mac)))
		return REASON_FOREIGN_ARP; /* a VM asks for itself, and answers for nobody */
	return REASON_NONE;
}

/* A group frame is for whoever listens. But a sender that may talk to one VM must not reach all others by writing its
 * address into a broadcast. */
APART int check_group_address(const struct serai_vnic *vnic, const struct packet *p)
{
	struct serai_endpoint_key holder = {};

	if (!vnic || !p)
		return REASON_NOT_ADDRESSED;
	holder.view = vnic->view;
	__builtin_memcpy(holder.address, p->key.local, sizeof(holder.address));
	if (p->group && p->key.protocol != IPPROTO_TCP && !bpf_map_lookup_elem(&endpoints, &holder))
		return REASON_NONE;
	return REASON_NOT_ADDRESSED;
}

/* A source address of all zeros is looked at later: who may use it depends on what it says. */
ALWAYS int check_addresses(const struct serai_vnic *vnic, int direction, const struct packet *p)
{
	if (direction == EGRESS)
		return p->nobody || may_speak_as(vnic, p->key.local, p->mac) ? REASON_NONE : REASON_FOREIGN_IP;
	return may_speak_as(vnic, p->key.local, p->mac) ? REASON_NONE : check_group_address(vnic, p);
}

/* Inside a tunnel's packet no gate looks, and to the hosts' own tunnels it could pass for one of theirs. */
ALWAYS int is_tunnel(const struct packet *p)
{
	switch (p->key.protocol) {
	case IPPROTO_UDP:
		switch (p->key.remote_port) {
		TUNNEL_PORTS(bpf_htons)
			return 1;
		default:
			return 0;
		}
	TUNNEL_PROTOCOLS
		return 1;
	default:
		return 0;
	}
}
