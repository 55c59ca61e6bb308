/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The gate: two programs on one tap, between a vNIC and its virtual switch.
 *
 * parse -> port security -> flow -> (a new connection: identity, decision list) -> flow created or drop counted.
 * Whatever is not expressly let through is dropped with a reason. */

#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include "conntrack.h"
#include "maps.h"
#include "parse.h"
#include "policy.h"
#include "ports.h"
#include "record.h"

#define HEADERS (sizeof(struct ethhdr) + 60 + sizeof(struct tcphdr)) /* the longest that is looked at */

struct verdict {
	int reason;
	int origin; /* what was judged: a connection opened in this direction ... */
	__u64 rule; /* ... by this rule; 0 where none was asked */
	__u64 identity;
	__u16 service; /* ... to this port */
};

#define VOLATILE(x) (*(volatile typeof(x) *)&(x))

/* Copies the entry, because the agent may replace it meanwhile and the kernel may then reuse its memory for
 * another vNIC. The leading fields are written first and read again last: a torn copy is seen. */
ALWAYS int copy_vnic(__u32 ifindex, struct serai_vnic *copy)
{
	struct serai_vnic *vnic = bpf_map_lookup_elem(&vnics, &ifindex);

	if (!vnic)
		return 0;
	*copy = *vnic;
	asm volatile("" ::: "memory");
	return copy->ifindex == ifindex && VOLATILE(vnic->ifindex) == ifindex &&
	       VOLATILE(vnic->judged_by) == copy->judged_by;
}

/* The port that policy judges, seen from a flow: a reply names it as its source. */
ALWAYS __u16 service_of(const struct packet *p, int origin)
{
	if (p->protocol == IPPROTO_ICMP)
		return ICMP_ECHO_REQUEST << 8;
	return bpf_ntohs(origin == EGRESS ? p->remote_port : p->local_port);
}

/* Asks policy about a connection that was opened in the direction `origin`. A function of its own, not inlined: it is
 * called from several places, and each copy would cost the verifier anew. */
static __noinline const struct serai_decision *judge(const struct serai_vnic *vnic, const struct packet *p, int origin,
						     struct verdict *verdict)
{
	const struct serai_decision *decision;

	verdict->origin = origin;
	verdict->service = service_of(p, origin);
	verdict->identity = identity_of(vnic->view, p->remote);
	decision = decide(vnic->ruleset[origin & 1], verdict->identity, p->protocol, verdict->service);
	if (!decision) {
		verdict->reason = REASON_NO_RULESET;
		return NULL;
	}
	verdict->rule = decision->rule;
	verdict->reason = decision->step == STEP_ACCEPT ? REASON_NONE : REASON_DENIED;
	return decision;
}

/* Observing starts amid live connections, and often before there are rules: who opened one is not known. It is taken
 * in the orientation that policy accepts, so that it lives on when enforcement begins. */
ALWAYS const struct serai_decision *judge_either(const struct serai_vnic *vnic, const struct packet *p, int *origin,
						 struct verdict *verdict)
{
	const struct serai_decision *decision = judge(vnic, p, *origin, verdict), *other;
	struct verdict turned = {};

	if (!(vnic->flags & FLAG_OBSERVE) || verdict->reason != REASON_DENIED || p->opens || p->protocol != IPPROTO_TCP)
		return decision;
	other = judge(vnic, p, !*origin, &turned);
	if (!other || turned.reason)
		return decision;
	*origin = !*origin;
	*verdict = turned;
	return other;
}

/* `judged_by` goes last: another processor that sees it may rely on the rest. */
ALWAYS void stamp(struct serai_flow *flow, const struct serai_vnic *vnic, const struct serai_decision *decision,
		  __u64 identity)
{
	flow->identity = identity;
	flow->rule = decision->rule;
	flow->staged_rule = decision->staged_rule;
	flow->step = decision->step;
	flow->staged_step = decision->staged_step;
	asm volatile("" ::: "memory");
	VOLATILE(flow->judged_by) = vnic->judged_by;
}

ALWAYS void open_flow(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
		      void *table, const struct serai_flow_key *key, __u64 now, struct verdict *verdict)
{
	struct serai_flow flow = { .first_ns = now, .last_ns = now };
	int origin = direction;
	const struct serai_decision *decision = judge_either(vnic, p, &origin, verdict);

	if (!decision || (verdict->reason && !(vnic->flags & FLAG_OBSERVE)))
		return;
	flow.origin = origin;
	stamp(&flow, vnic, decision, verdict->identity);
	flow.packets[direction & 1] = segments(skb, p);
	flow.bytes[direction & 1] = skb->len;
	flow.tcp_flags[direction & 1] = p->tcp_flags;
	/* An observed denial is recorded by its flow, whose step says Deny. */
	verdict->reason = bpf_map_update_elem(table, key, &flow, BPF_ANY) ? REASON_FLOW_QUOTA : REASON_NONE;
}

/* Policy has changed since the flow was judged: ask again, as it was opened. Returns 0 where it must end. */
ALWAYS int judge_again(const struct serai_vnic *vnic, const struct packet *p, struct serai_flow *flow,
		       struct verdict *verdict)
{
	int origin = flow->origin;
	const struct serai_decision *decision = judge_either(vnic, p, &origin, verdict);

	if (verdict->reason && !(vnic->flags & FLAG_OBSERVE))
		return 0;
	flow->origin = origin;
	if (decision)
		stamp(flow, vnic, decision, verdict->identity);
	verdict->reason = REASON_NONE;
	return 1;
}

/* A SYN against the direction in which a flow was opened is a connection of its own: the flow does not vouch for it. */
ALWAYS int vouches(const struct serai_vnic *vnic, const struct packet *p, const struct serai_flow *flow, int direction,
		   struct verdict *verdict)
{
	if (p->protocol != IPPROTO_TCP || !p->opens || direction == flow->origin)
		return 1;
	judge(vnic, p, direction, verdict);
	if (verdict->reason && !(vnic->flags & FLAG_OBSERVE))
		return 0;
	verdict->reason = REASON_NONE;
	return 1;
}

ALWAYS void track(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p, int direction,
		  struct verdict *verdict)
{
	struct serai_flow_key key = {
		.local = p->local, .remote = p->remote, .local_port = p->local_port,
		.remote_port = p->remote_port, .protocol = p->protocol, .asked = p->asked,
	};
	__u64 id = vnic->id, now = bpf_ktime_get_coarse_ns();
	void *table = bpf_map_lookup_elem(&flows, &id);
	struct serai_flow *flow;
	int may_open;

	if (!table) {
		verdict->reason = REASON_NO_RULESET;
		return;
	}
	flow = bpf_map_lookup_elem(table, &key);
	if (flow && !is_over(flow, p, now)) {
		if (flow->judged_by != vnic->judged_by && !judge_again(vnic, p, flow, verdict))
			bpf_map_delete_elem(table, &key);
		else if (vouches(vnic, p, flow, direction, verdict) && !p->related)
			count_flow(flow, skb, p, direction, now);
		return;
	}
	may_open = p->opens || (vnic->flags & FLAG_OBSERVE && p->protocol == IPPROTO_TCP);
	if (p->related || !may_open)
		verdict->reason = REASON_NO_FLOW;
	else
		open_flow(skb, vnic, p, direction, table, &key, now, verdict);
}

ALWAYS void inspect(struct __sk_buff *skb, const struct serai_vnic *vnic, int direction, struct packet *p,
		    struct verdict *verdict)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth;
	struct iphdr *ip;

	/* A tag sits in the skb's metadata: the ethertype in the frame already shows what is inside. */
	if (skb->vlan_present) {
		verdict->reason = REASON_VLAN;
		return;
	}
	if (data + HEADERS > end) { /* headers may lie in fragments of the skb: bring them in */
		bpf_skb_pull_data(skb, skb->len < HEADERS ? skb->len : HEADERS);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	eth = data;
	ip = (void *)(eth + 1);
	if ((void *)(eth + 1) > end) {
		verdict->reason = REASON_MALFORMED;
		return;
	}
	verdict->reason = check_frame(vnic, eth, direction);
	if (verdict->reason)
		return;
	switch (eth->h_proto) {
	case bpf_htons(ETH_P_ARP):
	case bpf_htons(ETH_P_RARP):
		verdict->reason = check_arp(vnic, (void *)ip, end, eth->h_proto == bpf_htons(ETH_P_RARP), direction, p);
		return;
	case bpf_htons(ETH_P_8021Q):
	case bpf_htons(ETH_P_8021AD):
		verdict->reason = REASON_VLAN;
		return;
	case bpf_htons(ETH_P_IP):
		break;
	default:
		verdict->reason = REASON_ETHERTYPE;
		return;
	}
	if ((void *)(ip + 1) > end) {
		verdict->reason = REASON_MALFORMED;
		return;
	}
	p->local = direction == EGRESS ? ip->saddr : ip->daddr;
	p->remote = direction == EGRESS ? ip->daddr : ip->saddr;
	verdict->reason = check_addresses(vnic, eth, ip, direction);
	if (!verdict->reason)
		verdict->reason = parse_ipv4(skb, ip, end, direction, p);
	if (!verdict->reason)
		track(skb, vnic, p, direction, verdict);
}

ALWAYS int gate(struct __sk_buff *skb, int direction)
{
	struct serai_vnic vnic = {};
	struct packet p = {};
	struct verdict verdict = {};
	int observe;

	if (!copy_vnic(skb->ifindex, &vnic)) {
		count_drop(skb, 0, 0, &p, direction, direction, REASON_UNKNOWN_VNIC, 0, 0);
		return TC_ACT_SHOT;
	}
	inspect(skb, &vnic, direction, &p, &verdict);
	if (verdict.reason == REASON_NONE)
		return TC_ACT_UNSPEC; /* programs behind this one, if any, have their say */
	observe = vnic.flags & FLAG_OBSERVE;
	if (verdict.rule) /* recorded as it was judged, whichever packet brought it up */
		p.service = verdict.service;
	count_drop(skb, vnic.id, observe, &p, direction, verdict.rule ? verdict.origin : direction, verdict.reason,
		   verdict.rule, verdict.identity);
	return observe ? TC_ACT_UNSPEC : TC_ACT_SHOT;
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
