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

/* What an IPv4 message says. Of one that is too short for it, or goes on in other fragments, nothing is read: behind the
 * datagram a frame may hold whatever its sender wants us to see. */
ALWAYS void read_message(struct __sk_buff *skb, const struct packet *p, struct boot_message *boot)
{
	if (p->left >= sizeof(struct udphdr) + sizeof(*boot))
		bpf_skb_load_bytes(skb, p->offset + sizeof(struct udphdr), boot, sizeof(*boot));
}

/* May it be a server's? Clients look at the port that it goes to, and at what it says. What a first fragment leaves
 * open is taken for one. */
ALWAYS int is_answer(const struct packet *p, const struct boot_message *boot)
{
	return p->key.local_port == bpf_htons(DHCP_SERVER_PORT) || boot->operation == BOOT_REPLY ||
	       (p->fragmented && !boot->operation);
}

ALWAYS int is_dhcpv6_answer(struct __sk_buff *skb, const struct packet *p)
{
	__u8 type = 0;

	if (p->left > sizeof(struct udphdr))
		bpf_skb_load_bytes(skb, p->offset + sizeof(struct udphdr), &type, sizeof(type));
	return p->key.local_port == bpf_htons(DHCPV6_SERVER_PORT) || type == DHCPV6_ADVERTISE ||
	       type == DHCPV6_REPLY || type == DHCPV6_RECONFIGURE || (p->fragmented && !type);
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
		if (local == DHCPV6_SERVER_PORT && remote == DHCPV6_CLIENT_PORT) {
			p->settled = !!may_serve;
			return direction == EGRESS && !may_serve ? REASON_DHCP_SERVER : REASON_NONE;
		}
		if (direction == EGRESS && remote == DHCPV6_CLIENT_PORT && !may_serve && is_dhcpv6_answer(skb, p))
			return REASON_DHCP_SERVER;
		if (local != DHCPV6_CLIENT_PORT || remote != DHCPV6_SERVER_PORT || !is_link_local(p->key.local))
			return REASON_NONE;
		p->settled = direction == EGRESS ? is_dhcpv6_group(p->key.remote) : is_link_local(p->key.remote);
		return REASON_NONE;
	}
	read_message(skb, p, &boot);
	if (direction == EGRESS && remote == DHCP_CLIENT_PORT && !may_serve && is_answer(p, &boot))
		return REASON_DHCP_SERVER;
	if (remote == DHCP_CLIENT_PORT && (local == DHCP_SERVER_PORT || (direction == EGRESS && boot.operation == BOOT_REPLY))) {
		p->settled = !!may_serve;
		return REASON_NONE;
	}
	if (local != DHCP_CLIENT_PORT || remote != DHCP_SERVER_PORT)
		return REASON_NONE;
	about_it = boot.hardware_length == 6 && same_mac(boot.client_mac, vnic->mac) &&
		   boot.operation == (direction == EGRESS ? BOOT_REQUEST : BOOT_REPLY);
	if (!about_it)
		return REASON_FOREIGN_DHCP;
	p->settled = direction == INGRESS || is_broadcast(skb, p);
	return REASON_NONE;
}
