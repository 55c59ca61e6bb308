/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* DHCP (RFC 2131) and DHCPv6 (RFC 8415): a VM may ask for itself, and only a server may answer. */
#pragma once

#include "ports.h"

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCPV6_CLIENT_PORT 546
#define DHCPV6_SERVER_PORT 547
#define DHCPV6_ADVERTISE 2
#define DHCPV6_REPLY 7
#define DHCPV6_RECONFIGURE 10
#define DHCPV6_INFORMATION_REQUEST 11
#define BOOT_REQUEST 1
#define BOOT_REPLY 2
#define BOOT_ADDRESSES 12 /* where a message's addresses stand */
#define DHCP_OPTIONS 236 /* where the magic cookie stands, and options behind it (RFC 2132, 2) */
#define DHCP_COOKIE 0x63825363
#define DHCP_PAD 0
#define DHCP_END 255
#define DHCP_REQUESTED_ADDRESS 50
#define DHCP_MESSAGE_TYPE 53
#define MAX_DHCP_OPTIONS 32

/* The beginning of a message (RFC 951). */
struct boot_message {
	__u8 operation;
	__u8 hardware_type;
	__u8 hardware_length;
	__u8 hops;
	__u8 between[24];
	__u8 client_mac[6];
};

/* The first two of a message. */
struct boot_addresses {
	__u32 client; /* that it has */
	__u32 yours;  /* that it gets */
};

ALWAYS int is_dhcp(const struct packet *p)
{
	__u16 local = p->key.local_port, remote = p->key.remote_port;

	return p->key.protocol == IPPROTO_UDP &&
	       (local == bpf_htons(DHCP_SERVER_PORT) || local == bpf_htons(DHCP_CLIENT_PORT) ||
		local == bpf_htons(DHCPV6_CLIENT_PORT) || local == bpf_htons(DHCPV6_SERVER_PORT) ||
		remote == bpf_htons(DHCP_CLIENT_PORT) || remote == bpf_htons(DHCPV6_CLIENT_PORT));
}

/* ff02::1:2, all relays and servers of the link, and ff05::1:3, all servers of the site. */
ALWAYS int is_dhcpv6_group(const __u32 *address)
{
	return !address[1] && !address[2] &&
	       ((address[0] == bpf_htonl(0xff020000) && address[3] == bpf_htonl(0x00010002)) ||
		(address[0] == bpf_htonl(0xff050000) && address[3] == bpf_htonl(0x00010003)));
}

/* To all of the link, by both headers. */
ALWAYS int is_broadcast(struct __sk_buff *skb, const struct packet *p)
{
	__u16 target[3];

	return p->key.remote[3] == bpf_htonl(0xffffffff) && !bpf_skb_load_bytes(skb, 0, target, sizeof(target)) &&
	       (target[0] & target[1] & target[2]) == 0xffff;
}

/* What a message begins with, 0 where there is none: behind the datagram a frame may hold whatever its sender wants us
 * to see. */
ALWAYS __u8 first_byte(struct __sk_buff *skb, const struct packet *p)
{
	__u8 first = 0;

	if (p->left > sizeof(struct udphdr))
		bpf_skb_load_bytes(skb, p->offset + sizeof(struct udphdr), &first, sizeof(first));
	return first;
}

/* Does it say what only servers say? Clients look at that, and at the port that it goes to. What a first fragment leaves
 * open is taken for it. */
ALWAYS int is_answer(const struct packet *p, __u8 first)
{
	if (!first)
		return p->fragmented;
	if (is_mapped(p->key.local))
		return first == BOOT_REPLY;
	return first == DHCPV6_ADVERTISE || first == DHCPV6_REPLY || first == DHCPV6_RECONFIGURE;
}

/* Is it from one of these ports to one of them? */
ALWAYS int joins(const struct packet *p, __u16 server, __u16 client)
{
	__u16 local = bpf_ntohs(p->key.local_port), remote = bpf_ntohs(p->key.remote_port);

	return (local == server || local == client) && (remote == server || remote == client);
}

/* What a server says, known by its port or by its words. */
ALWAYS int is_from_server(struct __sk_buff *skb, const struct packet *p, int direction, __u16 server, __u16 client)
{
	__u16 local = bpf_ntohs(p->key.local_port), remote = bpf_ntohs(p->key.remote_port);

	return remote == client && (local == server || (direction == EGRESS && is_answer(p, first_byte(skb, p))));
}

/* Clients ask for an address by an option, or have it; servers give one. */
ALWAYS int sight_dhcpv4(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction)
{
	struct address about = {};
	__u32 message, at, behind, cookie, address = 0;
	struct boot_addresses has;
	__u8 type = 0;
	int kind;

	_Static_assert(SIGHTING_DHCP_INFORM == SIGHTING_DHCP_DISCOVER + 7, "in the order of RFC 2132, 9.6");
	message = p->offset + sizeof(struct udphdr);
	behind = p->offset + p->left;
	at = message + DHCP_OPTIONS;
	if (at + sizeof(cookie) > behind || bpf_skb_load_bytes(skb, message + BOOT_ADDRESSES, &has, sizeof(has)) ||
	    bpf_skb_load_bytes(skb, at, &cookie, sizeof(cookie)) || cookie != bpf_htonl(DHCP_COOKIE))
		return 0;
	at += sizeof(cookie);
	for (int i = 0; i < MAX_DHCP_OPTIONS; i++) {
		__u8 option[2];

		if (at + sizeof(option) > behind || bpf_skb_load_bytes(skb, at, option, sizeof(option)) ||
		    option[0] == DHCP_END)
			break;
		if (option[0] == DHCP_PAD) {
			at++;
			continue;
		}
		at += sizeof(option);
		if (at + option[1] > behind)
			break;
		if (option[0] == DHCP_MESSAGE_TYPE && option[1] == sizeof(type))
			bpf_skb_load_bytes(skb, at, &type, sizeof(type));
		if (option[0] == DHCP_REQUESTED_ADDRESS && option[1] == sizeof(address))
			bpf_skb_load_bytes(skb, at, &address, sizeof(address));
		at += option[1];
	}
	kind = SIGHTING_DHCP_DISCOVER + type - 1;
	if (kind < SIGHTING_DHCP_DISCOVER || kind > SIGHTING_DHCP_INFORM)
		return 0;
	if (kind == SIGHTING_DHCP_OFFER || kind == SIGHTING_DHCP_ACK || kind == SIGHTING_DHCP_NAK)
		address = has.yours;
	else if (!address)
		address = has.client;
	if (address)
		map_ipv4(about.words, address);
	return sight(vnic, direction, kind, &about);
}

/* Behind those that clients and servers send stand the relays' (RFC 8415, 7.3), which wrap up others. */
ALWAYS int sight_dhcpv6(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction)
{
	struct address about = {};
	__u8 first = first_byte(skb, p);

	if (!first || first > DHCPV6_INFORMATION_REQUEST)
		return 0;
	return sight(vnic, direction, is_answer(p, first) ? SIGHTING_DHCPV6_ANSWERED : SIGHTING_DHCPV6_ASKED, &about);
}

/* Apart from what checks the same message: one behind the other they would take more stack than there is. */
APART int sight_dhcp(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction)
{
	if (!vnic || !p)
		return 0;
	if (is_mapped(p->key.local))
		return joins(p, DHCP_SERVER_PORT, DHCP_CLIENT_PORT) ? sight_dhcpv4(skb, vnic, p, direction) : 0;
	return joins(p, DHCPV6_SERVER_PORT, DHCPV6_CLIENT_PORT) ? sight_dhcpv6(skb, vnic, p, direction) : 0;
}

/* Lets pass, without policy, what a client sends to whoever serves the link, and the answers to it; of a vNIC that may
 * serve, both sides of that. */
APART int check_dhcp(struct __sk_buff *skb, const struct serai_vnic *vnic, struct packet *p, int direction)
{
	struct boot_message boot = {};
	__u16 server, client;
	int is_ipv4;

	if (!vnic || !p)
		return REASON_MALFORMED;
	is_ipv4 = is_mapped(p->key.local);
	server = is_ipv4 ? DHCP_SERVER_PORT : DHCPV6_SERVER_PORT;
	client = is_ipv4 ? DHCP_CLIENT_PORT : DHCPV6_CLIENT_PORT;
	if (is_from_server(skb, p, direction, server, client)) {
		p->settled = !!(vnic->flags & FLAG_SERVES_DHCP);
		return direction == EGRESS && !p->settled ? REASON_DHCP_SERVER : REASON_NONE;
	}
	if (p->key.local_port != bpf_htons(client) || p->key.remote_port != bpf_htons(server))
		return REASON_NONE;
	if (!is_ipv4) {
		p->settled = is_link_local(p->key.local) &&
			     (direction == EGRESS ? is_dhcpv6_group(p->key.remote) : is_link_local(p->key.remote));
		return REASON_NONE;
	}
	if (p->left >= sizeof(struct udphdr) + sizeof(boot)) /* a shorter one is nobody's */
		bpf_skb_load_bytes(skb, p->offset + sizeof(struct udphdr), &boot, sizeof(boot));
	if (boot.operation != (direction == EGRESS ? BOOT_REQUEST : BOOT_REPLY) || boot.hardware_length != 6 ||
	    !same_mac(boot.client_mac, vnic->mac))
		return REASON_FOREIGN_DHCP;
	p->settled = direction == INGRESS || is_broadcast(skb, p);
	return REASON_NONE;
}
