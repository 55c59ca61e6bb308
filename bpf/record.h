/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is written down about every packet: flows carry their own counters, drops are counted here.
 *
 * `meters` counts every drop, for ever. `denials` says who and what, in so many kinds as fit. The ring carries
 * samples. What one of them has no room for is counted in `meters`. */
#pragma once

#include "conntrack.h"

#define SAMPLE_NS 1000000000ULL  /* one sample in this time of each kind of drop */
#define DENIALS_A_SECOND 1024    /* kinds of drops that one vNIC may add: a scan must not crowd out others */
#define SECOND(now) ((__u32)((now) >> 30)) /* about a second; no division */

struct verdict {
	__u64 identity; /* what was judged: a connection with these ... */
	__u32 origin;   /* ... opened in this direction ... */
	__u16 service;  /* ... to this port */
	__u8 reason;
	__u8 pad;
	struct serai_decision decision; /* ... by this rule; 0 where none was asked */
};

/* How many packets this one is on a wire. What a VM hands over has its segments not counted yet, only sized. */
ALWAYS __u32 segments(const struct __sk_buff *skb, const struct packet *p)
{
	__u32 size = skb->gso_size;

	if (!size)
		return 1;
	if (skb->gso_segs)
		return skb->gso_segs;
	if (skb->len <= p->headers)
		return 1;
	return (skb->len - p->headers + size - 1) / size;
}

ALWAYS void count_flow(struct serai_flow *flow, const struct __sk_buff *skb, const struct packet *p, int direction,
		       __u64 now)
{
	if (!p->opens || !is_closing(flow)) /* a SYN that is not let begin anew must not keep what is over */
		flow->last_ns = now;
	__sync_fetch_and_add(&flow->packets[direction & 1], segments(skb, p));
	__sync_fetch_and_add(&flow->bytes[direction & 1], skb->len);
}

ALWAYS struct serai_meter *meter_of(__u32 slot)
{
	return bpf_map_lookup_elem(&meters, &slot);
}

/* Begins a new second where it is time; what two processors count at that moment may be off by a few. */
ALWAYS void turn_second(struct serai_meter *meter, __u64 now)
{
	if (meter->second == SECOND(now))
		return;
	meter->second = SECOND(now);
	meter->opened[EGRESS] = meter->opened[INGRESS] = meter->denied = 0;
}

/* Says whether one more flow may be opened in this second. */
APART int may_open_now(const struct serai_vnic *vnic, int direction, __u64 now)
{
	struct serai_meter *meter = vnic ? meter_of(vnic->slot) : NULL;

	if (!meter)
		return 0;
	turn_second(meter, now);
	if (!vnic->flow_rate)
		return 1;
	return __sync_fetch_and_add(&meter->opened[direction & 1], 1) < vnic->flow_rate;
}

ALWAYS void tell_drop(const struct __sk_buff *skb, struct serai_meter *meter, const struct packet *p,
		      const struct serai_denial_key *key, int direction, __u64 rule, __u64 now)
{
	struct serai_drop_event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		__sync_fetch_and_add(&meter->lost_samples, 1);
		return;
	}
	*event = (struct serai_drop_event){
		.kind = EVENT_DROP, .length = skb->len, .ns = now, .vnic = key->vnic, .rule = rule,
		.identity = key->identity, .packet = p->key, .port = key->port, .direction = direction,
		.reason = key->reason, .observed = key->observed, .tcp_flags = p->tcp_flags,
	};
	bpf_ringbuf_submit(event, 0);
}

/* A flow's counters would be lost with it: they go to the ring. */
APART int tell_ended(const struct serai_vnic *vnic, const struct serai_flow_key *key, const struct serai_flow *flow)
{
	struct serai_ended_event *event;

	if (!vnic || !key || !flow)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		struct serai_meter *meter = meter_of(vnic->slot);

		if (meter)
			__sync_fetch_and_add(&meter->lost_ends, 1);
		return 0;
	}
	event->kind = EVENT_ENDED;
	event->pad = 0;
	event->vnic = vnic->id;
	event->key = *key;
	event->flow = *flow;
	bpf_ringbuf_submit(event, 0);
	return 1;
}

/* `direction` is the packet's own. A verdict is recorded as it was judged, whichever packet brought it up: a reply goes
 * against the connection in question. */
APART int count_drop(struct __sk_buff *skb, const struct serai_vnic *vnic, const struct packet *p,
		     const struct verdict *verdict, int direction)
{
	__u64 now = now_ns(), rule;
	struct serai_denial_key key = {};
	struct serai_denial *denial;
	struct serai_meter *meter;

	if (!p || !verdict)
		return 0;
	rule = verdict->decision.rule;
	key.vnic = vnic ? vnic->id : 0;
	key.identity = verdict->identity;
	key.protocol = p->key.protocol;
	key.port = rule ? verdict->service : p->service;
	key.direction = rule ? verdict->origin : direction;
	key.reason = verdict->reason;
	key.observed = vnic && vnic->flags & FLAG_OBSERVE;
	key.staged = verdict->reason == REASON_DENIED && verdict->decision.staged_step == STEP_ACCEPT;
	meter = meter_of(vnic ? vnic->slot : UNKNOWN_SLOT);
	if (!meter)
		return 0;
	__sync_fetch_and_add(&meter->drops[direction & 1][verdict->reason & (REASON_SLOTS - 1)], segments(skb, p));
	denial = bpf_map_lookup_elem(&denials, &key);
	if (!denial) {
		struct serai_denial first = { .rule = rule };

		turn_second(meter, now);
		if (__sync_fetch_and_add(&meter->denied, 1) < DENIALS_A_SECOND)
			bpf_map_update_elem(&denials, &key, &first, BPF_NOEXIST);
		denial = bpf_map_lookup_elem(&denials, &key);
	}
	if (!denial) {
		__sync_fetch_and_add(&meter->lost_denials, segments(skb, p));
		return 0;
	}
	__sync_fetch_and_add(&denial->packets, segments(skb, p));
	__sync_fetch_and_add(&denial->bytes, skb->len);
	denial->last_ns = now;
	denial->rule = rule;
	__builtin_memcpy(denial->remote, p->key.remote, sizeof(denial->remote));
	if (now < denial->sampled_ns + SAMPLE_NS)
		return 1;
	denial->sampled_ns = now;
	tell_drop(skb, meter, p, &key, direction, rule, now);
	return 1;
}
