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
#define BOOT_REQUEST 1
#define BOOT_REPLY 2

/* The beginning of a message (RFC 951). */
struct boot_message {
	__u8 operation;
	__u8 hardware_type;
	__u8 hardware_length;
	__u8 hops;
	__u8 between[24];
	__u8 client_mac[6];
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

/* Lets pass, without policy, what a client sends to whoever serves the link, and the answers to it; of a vNIC that may
 * serve, both sides of that. */
APART int check_dhcp(struct __sk_buff *skb, const struct serai_vnic *vnic, struct packet *p, int direction)
{
	struct boot_message boot = {};
	int may_serve, about_it;
	__u16 local, remote;

	if (!vnic || !p)
		return REASON_MALFORMED;
	may_serve = vnic->flags & FLAG_SERVES_DHCP;
	local = bpf_ntohs(p->key.local_port);
	remote = bpf_ntohs(p->key.remote_port);
	if (!is_mapped(p->key.local)) {
		if (remote == DHCPV6_CLIENT_PORT &&
		    (local == DHCPV6_SERVER_PORT || (direction == EGRESS && is_answer(p, first_byte(skb, p))))) {
			p->settled = !!may_serve;
			return direction == EGRESS && !may_serve ? REASON_DHCP_SERVER : REASON_NONE;
		}
		if (local != DHCPV6_CLIENT_PORT || remote != DHCPV6_SERVER_PORT || !is_link_local(p->key.local))
			return REASON_NONE;
		p->settled = direction == EGRESS ? is_dhcpv6_group(p->key.remote) : is_link_local(p->key.remote);
		return REASON_NONE;
	}
	if (remote == DHCP_CLIENT_PORT &&
	    (local == DHCP_SERVER_PORT || (direction == EGRESS && is_answer(p, first_byte(skb, p))))) {
		p->settled = !!may_serve;
		return direction == EGRESS && !may_serve ? REASON_DHCP_SERVER : REASON_NONE;
	}
	if (local != DHCP_CLIENT_PORT || remote != DHCP_SERVER_PORT)
		return REASON_NONE;
	if (p->left >= sizeof(struct udphdr) + sizeof(boot)) /* a shorter one is nobody's */
		bpf_skb_load_bytes(skb, p->offset + sizeof(struct udphdr), &boot, sizeof(boot));
	about_it = boot.hardware_length == 6 && same_mac(boot.client_mac, vnic->mac) &&
		   boot.operation == (direction == EGRESS ? BOOT_REQUEST : BOOT_REPLY);
	if (!about_it)
		return REASON_FOREIGN_DHCP;
	p->settled = direction == INGRESS || is_broadcast(skb, p);
	return REASON_NONE;
}
