/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is written down about every packet: flows carry their own counters, drops are counted here. */
#pragma once

#include "parse.h"

/* How many packets this one is on a wire. What a VM hands over has its segments not counted yet, only sized. */
ALWAYS __u32 segments(const struct __sk_buff *skb, const struct packet *p)
{
	__u32 size = skb->gso_size;

	if (skb->gso_segs)
		return skb->gso_segs;
	if (!size || skb->len <= p->headers)
		return 1;
	return (skb->len - p->headers + size - 1) / size;
}

ALWAYS void count_flow(struct serai_flow *flow, const struct __sk_buff *skb, const struct packet *p,
		       int direction, __u64 now)
{
	flow->last_ns = now;
	__sync_fetch_and_add(&flow->packets[direction], segments(skb, p));
	__sync_fetch_and_add(&flow->bytes[direction], skb->len);
	if (p->tcp_flags & ~flow->tcp_flags[direction])
		flow->tcp_flags[direction] |= p->tcp_flags;
}

/* `judged` is the direction of the connection in question, which a reply goes against.
 * `denials` says who and what, and forgets the oldest when a flood fills it; `drops` only counts, for ever. */
ALWAYS void count_drop(const struct __sk_buff *skb, __u64 vnic, int observed, const struct packet *p,
		       int direction, int judged, int reason, __u64 rule, __u64 identity)
{
	struct serai_denial_key key = {
		.vnic = vnic, .remote = p->remote, .port = p->service, .protocol = p->protocol,
		.direction = judged, .reason = reason, .observed = observed,
	};
	__u64 now = bpf_ktime_get_coarse_ns();
	struct serai_drops *total = bpf_map_lookup_elem(&drops, &vnic);
	struct serai_denial *denial = bpf_map_lookup_elem(&denials, &key);

	if (total)
		__sync_fetch_and_add(&total->packets[direction & 1][reason & (REASON_SLOTS - 1)], segments(skb, p));
	if (denial) {
		denial->packets += segments(skb, p);
		denial->bytes += skb->len;
		denial->last_ns = now;
		denial->rule = rule;
		denial->identity = identity;
	} else {
		struct serai_denial first = {
			.packets = segments(skb, p), .bytes = skb->len, .last_ns = now, .rule = rule,
			.identity = identity,
		};
		bpf_map_update_elem(&denials, &key, &first, BPF_ANY);
	}
}
