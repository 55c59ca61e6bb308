/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The gate: two programs on one tap, between a vNIC and its virtual switch.
 *
 * parse -> port security -> flow -> (a new connection: identity, decision list) -> flow created or drop counted.
 * Whatever is not expressly let through is dropped with a reason. */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "conntrack.h"
#include "dhcp.h"
#include "fragments.h"
#include "maps.h"
#include "neighbors.h"
#include "parse.h"
#include "policy.h"
#include "ports.h"
#include "record.h"
#include "sightings.h"
#include "transport.h"

#define FRONT ((__u32)(sizeof(struct ethhdr) + sizeof(struct ipv6_header))) /* read in one piece */

#define VOLATILE(x) (*(volatile typeof(x) *)&(x))

/* The record of the vNIC behind a tap, or NULL. */
ALWAYS const struct serai_vnic *find_vnic(__u32 ifindex)
{
	__u32 near = ifindex & (TAPS - 1), *record = bpf_map_lookup_elem(&taps, &near);
	const struct serai_vnic *vnic = NULL;

	if (record)
		vnic = bpf_map_lookup_elem(&vnics, record);
	if (vnic && vnic->ifindex == ifindex)
		return vnic;
	record = bpf_map_lookup_elem(&far_taps, &ifindex);
	if (record)
		vnic = bpf_map_lookup_elem(&vnics, record);
	return vnic && vnic->ifindex == ifindex ? vnic : NULL;
}

/* The port that policy judges, seen from a flow: a reply names it as its source. */
ALWAYS __u16 service_of(const struct packet *p, int origin)
{
	if (is_icmp(p))
		return (p->key.protocol == IPPROTO_ICMP ? ICMP_ECHO_REQUEST : ICMPV6_ECHO_REQUEST) << 8;
	return bpf_ntohs(origin == EGRESS ? p->key.remote_port : p->key.local_port);
}

/* Asks policy about a connection that was opened in the direction `origin`. Returns what the verdict says then. */
APART int judge(const struct serai_vnic *vnic, const struct packet *p, struct verdict *verdict, int origin)
{
	const struct serai_decision *decision;

	if (!vnic || !p || !verdict)
		return REASON_NO_RULESET;
	verdict->origin = origin;
	verdict->service = service_of(p, origin);
	verdict->identity = identity_of(vnic->view, p->key.remote);
	decision = decide(vnic->ruleset[origin & 1], verdict->identity, p->key.protocol, verdict->service);
	if (decision)
		verdict->decision = *decision;
	if (!decision)
		verdict->reason = REASON_NO_RULESET;
	else
		verdict->reason = decision->step == STEP_ACCEPT ? REASON_NONE : REASON_DENIED;
	return verdict->reason;
}

/* Of a connection that began before anybody looked, who opened it is not known: is there an orientation that policy accepts?
 * Neither: then the verdict is as it seems. */
ALWAYS int judge_reversed(const struct serai_vnic *vnic, const struct packet *p, struct verdict *verdict, int origin)
{
	if (p->opens || p->key.protocol != IPPROTO_TCP || verdict->reason != REASON_DENIED)
		return 0;
	if (!judge(vnic, p, verdict, !origin))
		return 1;
	judge(vnic, p, verdict, origin);
	return 0;
}

/* Observing starts amid live connections, and often before there are rules. One is taken in the orientation that policy
 * accepts, so that it lives on when enforcement begins. Returns whether it may pass. */
ALWAYS int judge_either(const struct serai_vnic *vnic, const struct packet *p, struct verdict *verdict, int origin)
{
	if (!judge(vnic, p, verdict, origin))
		return 1;
	if (!(vnic->flags & FLAG_OBSERVE))
		return 0;
	judge_reversed(vnic, p, verdict, origin);
	return 1;
}

/* May it open a flow, though it is not its connection's first packet? Also where a VM has just come without all its flows. */
ALWAYS int may_be_amid(const struct serai_vnic *vnic, const struct packet *p, __u64 now)
{
	return p->key.protocol == IPPROTO_TCP && (vnic->flags & FLAG_OBSERVE || now < vnic->amid_until_ns);
}

/* `judged_by` goes last: another processor that sees it may rely on the rest. */
ALWAYS void stamp(struct serai_flow *flow, const struct serai_vnic *vnic, const struct verdict *verdict)
{
	flow->origin = verdict->origin;
	flow->identity = verdict->identity;
	flow->rule = verdict->decision.rule;
	flow->staged_rule = verdict->decision.staged_rule;
	flow->step = verdict->decision.step;
	flow->staged_step = verdict->decision.staged_step;
	asm volatile("" ::: "memory");
	VOLATILE(flow->judged_by) = vnic->judged_by;
}

/* Says whether a new flow may be opened; where not, the verdict says why. */
APART int admit(const struct serai_vnic *vnic, const struct packet *p, struct verdict *verdict, int direction)
{
	if (!vnic || !p || !verdict)
		return 0;
	if (!judge_either(vnic, p, verdict, direction) && !judge_reversed(vnic, p, verdict, direction))
		return 0;
	if (verdict->reason == REASON_NO_RULESET)
		return 0;
	if (may_open_now(vnic, direction, now_ns()))
		return 1;
	verdict->reason = REASON_FLOW_RATE;
	return 0;
}

/* An observed denial is recorded by its flow, whose step says Deny. */
APART int open_flow(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p,
		    const struct verdict *verdict, int direction)
{
	__u64 now = now_ns();
	struct serai_flow flow = { .first_ns = now, .last_ns = now };
	struct serai_flow_key key;
	__u32 slot;
	void *table;

	if (!vnic || !p || !verdict)
		return REASON_NO_RULESET;
	slot = vnic->slot;
	table = bpf_map_lookup_elem(&flows, &slot);
	if (!table)
		return REASON_NO_RULESET;
	stamp(&flow, vnic, verdict);
	flow.packets[direction & 1] = segments(skb, p);
	flow.bytes[direction & 1] = skb->len;
	if (!p->opens)
		forget_windows(&flow);
	if (has_state(p))
		begin(&flow, p, direction);
	key = p->key;
	return bpf_map_update_elem(table, &key, &flow, BPF_ANY) ? REASON_FLOW_QUOTA : REASON_NONE;
}

/* Policy has changed since the flow was judged: ask again, as it was opened. Returns 0 where it must end. */
APART int judge_again(const struct serai_vnic *vnic, const struct packet *p, struct serai_flow *flow,
		      struct verdict *verdict)
{
	if (!vnic || !p || !flow || !verdict || !judge_either(vnic, p, verdict, flow->origin))
		return 0;
	if (verdict->reason != REASON_NO_RULESET)
		stamp(flow, vnic, verdict);
	verdict->reason = REASON_NONE;
	return 1;
}

/* A SYN against the direction in which a flow was opened is a connection of its own: the flow does not vouch for it. */
ALWAYS int vouches(const struct serai_vnic *vnic, const struct packet *p, const struct serai_flow *flow, int direction,
		   struct verdict *verdict)
{
	if (!p->opens || direction == flow->origin || !has_state(p))
		return 1;
	if (judge(vnic, p, verdict, direction) && !(vnic->flags & FLAG_OBSERVE))
		return 0;
	verdict->reason = REASON_NONE;
	return 1;
}

/* A packet of a flow that lives. */
ALWAYS void go_on(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
		  struct serai_flow *flow, __u64 now, struct verdict *verdict)
{
	if (!vouches(vnic, p, flow, direction, verdict) || p->related)
		return;
	if (!follow(flow, p, direction)) {
		verdict->reason = REASON_OUT_OF_WINDOW;
		if (vnic->flags & FLAG_OBSERVE)
			forget_windows(flow); /* it passes, and the connection goes on from there */
		return;
	}
	count_flow(flow, skb, p, direction, now);
}

ALWAYS void track(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
		  struct verdict *verdict)
{
	__u64 now = now_ns();
	void *table = bpf_map_lookup_elem(&flows, &vnic->slot);
	struct serai_flow *flow;

	if (!table) {
		verdict->reason = REASON_NO_RULESET;
		return;
	}
	flow = bpf_map_lookup_elem(table, &p->key);
	if (flow && !is_over(flow, p, direction, now)) {
		if (flow->judged_by == vnic->judged_by || judge_again(vnic, p, flow, verdict)) {
			go_on(skb, vnic, p, direction, flow, now, verdict);
			return;
		}
		tell_ended(vnic, &p->key, flow);
		bpf_map_delete_elem(table, &p->key);
		return;
	}
	if (p->related || !(p->opens || may_be_amid(vnic, p, now))) {
		verdict->reason = REASON_NO_FLOW;
		return;
	}
	if (!admit(vnic, p, verdict, direction))
		return; /* a flow that is over stays for the sweep, and is told of once */
	if (flow)
		tell_ended(vnic, &p->key, flow);
	verdict->reason = open_flow(skb, vnic, p, verdict, direction);
}

/* A fragment without ports. */
ALWAYS int share_fate(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
		      struct serai_fragments *datagram)
{
	__u32 slot = vnic->slot; /* 6.1 takes no key from where the argument of a global function points */
	void *table = bpf_map_lookup_elem(&flows, &slot);
	__u32 first = p->piece / 8, behind = (p->piece + p->size + 7) / 8;
	struct serai_flow *flow;

	if (!datagram || !table)
		return REASON_FRAGMENT;
	if (mark_fragment(datagram, first, behind) || (datagram->total && behind > datagram->total))
		datagram->poisoned = 1;
	if (datagram->poisoned)
		return REASON_FRAGMENT_OVERLAP;
	if (!p->more)
		datagram->total = behind;
	/* Complete, it is forgotten: a busy sender uses its number again soon (RFC 4963). */
	if (__sync_fetch_and_add(&datagram->units, behind - first) + behind - first == datagram->total)
		datagram->first_ns = 0;
	flow = bpf_map_lookup_elem(table, &datagram->flow);
	if (!flow || flow->judged_by != vnic->judged_by) /* a whole packet is asked about, and a first fragment */
		return REASON_FRAGMENT;
	count_flow(flow, skb, p, direction, now_ns());
	return REASON_NONE;
}

/* A first fragment goes on to be judged, a later one has been. */
APART int check_fragment(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction)
{
	struct serai_fragments *datagram;

	/* What is still to be cut is no piece of anything: the cut would number it anew, from 0 (UFO). */
	if (!vnic || !p || skb->gso_size || !is_fragment_sound(p))
		return REASON_MALFORMED;
	datagram = find_fragments(vnic, direction, p, now_ns());
	if (p->piece)
		return share_fate(skb, vnic, p, direction, datagram);
	if (!datagram)
		return REASON_NONE;
	datagram->poisoned = 1; /* its first fragment has been here */
	return REASON_FRAGMENT_OVERLAP;
}

/* What transport says beside who it is for. */
ALWAYS int check_message(struct __sk_buff *skb, const struct serai_vnic *vnic, int direction, struct packet *p)
{
	__u8 type = p->service >> 8;
	int reason = REASON_NONE;

	if (is_icmp(p)) {
		if (is_mapped(p->key.local) != (p->key.protocol == IPPROTO_ICMP))
			return REASON_ICMP_TYPE; /* each version of IP has an ICMP of its own */
		if (p->key.protocol == IPPROTO_ICMPV6_MESSAGE && is_link_service(type))
			reason = check_neighbor(skb, vnic, p, direction);
		else if (is_icmp_error(p->key.protocol, type))
			reason = parse_quoted(skb, p, direction);
		else if (!is_echo(p->key.protocol, type))
			reason = REASON_ICMP_TYPE;
	} else if (is_dhcp(p)) {
		sight_dhcp(skb, vnic, p, direction);
		reason = check_dhcp(skb, vnic, p, direction);
		if (!reason && p->settled && direction == EGRESS &&
		    !may_open_now(vnic, direction, now_ns()))
			reason = REASON_FLOW_RATE;
	}
	/* Nobody speaks without an address but to get one. */
	if (!reason && p->nobody && direction == EGRESS && !p->settled)
		return REASON_FOREIGN_IP;
	return reason;
}

/* The network layer is read, and it is the vNIC's. */
ALWAYS void inspect_datagram(struct __sk_buff *skb, const struct serai_vnic *vnic, int direction, struct packet *p,
			     struct verdict *verdict)
{
	if (p->fragmented) {
		verdict->reason = check_fragment(skb, vnic, p, direction);
		if (verdict->reason || p->piece)
			return;
	}
	verdict->reason = parse_transport(skb, direction, p);
	if (!verdict->reason && direction == EGRESS && !(vnic->flags & FLAG_TUNNELS) && is_tunnel(p))
		verdict->reason = REASON_TUNNEL;
	if (!verdict->reason)
		verdict->reason = check_message(skb, vnic, direction, p);
	if (verdict->reason || p->settled)
		return;
	track(skb, vnic, p, direction, verdict);
	if (p->fragmented && !verdict->reason)
		remember_fragments(vnic, p, direction);
}

ALWAYS void inspect(struct __sk_buff *skb, const struct serai_vnic *vnic, int direction, struct packet *p,
		    struct verdict *verdict)
{
	struct span span = reach(skb, FRONT);
	struct ethhdr *eth = span.data;

	/* A tag sits in the skb's metadata: the ethertype in the frame already shows what is inside. */
	if (skb->vlan_present) {
		verdict->reason = REASON_VLAN;
		return;
	}
	if ((void *)(eth + 1) > span.end) {
		verdict->reason = REASON_MALFORMED;
		return;
	}
	verdict->reason = check_macs(vnic, eth, direction, p);
	if (verdict->reason)
		return;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_IP):
		verdict->reason = parse_ipv4(skb, span, direction, p);
		if (!verdict->reason)
			verdict->reason = check_addresses(vnic, direction, p);
		if (!verdict->reason && p->offset > BEFORE_OPTIONS)
			verdict->reason = check_options(skb, p->offset - BEFORE_OPTIONS);
		break;
	case bpf_htons(ETH_P_IPV6):
		verdict->reason = parse_ipv6(skb, span, direction, p);
		if (!verdict->reason && !is_transport(p->key.protocol))
			verdict->reason = walk_extensions(skb, p);
		if (!verdict->reason)
			verdict->reason = check_addresses(vnic, direction, p);
		break;
	case bpf_htons(ETH_P_ARP):
	case bpf_htons(ETH_P_RARP):
		verdict->reason = check_arp(skb, vnic, p, eth->h_proto == bpf_htons(ETH_P_RARP), direction);
		return;
	default:
		verdict->reason = check_ethertype(vnic, eth->h_proto);
		return;
	}
	if (!verdict->reason)
		inspect_datagram(skb, vnic, direction, p, verdict);
}

ALWAYS int gate(struct __sk_buff *skb, int direction)
{
	const struct serai_vnic *vnic = find_vnic(skb->ifindex);
	struct packet p = {};
	struct verdict verdict = { .reason = REASON_UNKNOWN_VNIC };

	if (vnic)
		inspect(skb, vnic, direction, &p, &verdict);
	if (verdict.reason == REASON_NONE)
		return TC_ACT_UNSPEC; /* programs behind this one, if any, have their say */
	count_drop(skb, vnic, &p, &verdict, direction);
	return vnic && vnic->flags & FLAG_OBSERVE ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/* Run by user space only. */
SEC("tc")
int read_clocks(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct serai_clocks *read = bpf_map_lookup_elem(&clocks, &zero);

	(void)skb;
	if (read) {
		read->ticks = bpf_jiffies64();
		read->ns = bpf_ktime_get_ns();
	}
	return 0;
}

SEC("tc")
int from_vm(struct __sk_buff *skb)
{
	return gate(skb, EGRESS);
}

SEC("tc")
int to_vm(struct __sk_buff *skb)
{
	return gate(skb, INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
