/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which packets belong to a connection, and when it is over. */
#pragma once

#include "transport.h"

/* How far an acknowledgement may lag behind, at the least: as much as could be sent without a window scale. */
#define ACK_LAG 66000
#define UNKNOWN_WINDOW (1U << 29) /* half of the widest there is (RFC 7323, 2.3) */
#define MOST_SLACK UNKNOWN_WINDOW /* beside a window: numbers that are 2 GB apart cannot be told one from another */

/* A direction that the compiler knows nothing of: what it makes of an index into the stack otherwise, the verifier does
 * not take. */
#define OPAQUE(index) ({ __u32 hidden = (index); asm volatile("" : "+r"(hidden)); hidden; })

ALWAYS int is_after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

ALWAYS __u32 at_most(__u32 number, __u32 most)
{
	return number < most ? number : most;
}

/* Has the protocol connections of its own? */
ALWAYS int has_state(const struct packet *p)
{
	return p->key.protocol == IPPROTO_TCP || p->key.protocol == IPPROTO_SCTP;
}

/* A reset by either side, or a FIN by both. With one FIN the other side may go on sending. */
ALWAYS int is_closing(const struct serai_flow *flow)
{
	return ((flow->tcp_flags[EGRESS] | flow->tcp_flags[INGRESS]) & TCP_RST) ||
	       (flow->tcp_flags[EGRESS] & flow->tcp_flags[INGRESS] & TCP_FIN);
}

ALWAYS int is_half_closed(const struct serai_flow *flow)
{
	return (flow->tcp_flags[EGRESS] | flow->tcp_flags[INGRESS]) & TCP_FIN;
}

/* The sweep in user space removes flows by the same limits: see serai/model/flow.py. */
ALWAYS int idle_class(const struct serai_flow *flow, __u8 protocol)
{
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6_MESSAGE)
		return IDLE_ICMP;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_SCTP)
		return IDLE_OTHER;
	if (is_closing(flow))
		return IDLE_TCP_CLOSING;
	if (is_half_closed(flow))
		return IDLE_TCP_HALF_CLOSED;
	if (!flow->packets[EGRESS] || !flow->packets[INGRESS])
		return IDLE_TCP_OPENING;
	return protocol == IPPROTO_TCP ? IDLE_TCP_ESTABLISHED : IDLE_SCTP_ESTABLISHED;
}

ALWAYS int is_over(const struct serai_flow *flow, const struct packet *p, int side, __u64 now)
{
	__u32 zero = 0;
	struct serai_settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set || (now > flow->last_ns && now - flow->last_ns >= set->idle_ns[idle_class(flow, p->key.protocol)]))
		return 1;
	/* The same ports again: a new connection, to be judged anew. Without a reset it could also be a late copy of the
	 * SYN that began this one: a new one has a later number (RFC 9293, 3.6.1). */
	return p->opens && is_closing(flow) &&
	       (p->key.protocol != IPPROTO_TCP || (flow->tcp_flags[EGRESS] | flow->tcp_flags[INGRESS]) & TCP_RST ||
		!flow->window[side & 1] || is_after(p->seq, flow->end[side & 1]));
}

/* What a side's window field grants, in bytes. Scales count only where both sides have offered one (RFC 7323, 1.3). */
ALWAYS __u32 granted(const struct serai_flow *flow, const struct packet *p, int side)
{
	if ((flow->scale[0] | flow->scale[1]) & SCALE_UNKNOWN)
		return UNKNOWN_WINDOW;
	if (p->tcp_flags & TCP_SYN || !(flow->scale[0] & flow->scale[1] & SCALE_OFFERED))
		return p->window;
	return (__u32)p->window << (flow->scale[OPAQUE(side & 1)] & 15);
}

/* Nothing is known of the sequence numbers: whatever comes is taken, and tells where they are. */
ALWAYS void forget_windows(struct serai_flow *flow)
{
	flow->scale[EGRESS] = flow->scale[INGRESS] = SCALE_UNKNOWN;
	flow->window[EGRESS] = flow->window[INGRESS] = 0;
}

/* SYN and FIN have a number of their own. */
ALWAYS __u32 end_of(const struct packet *p)
{
	return p->seq + p->payload + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);
}

/* The last tick is too long ago to time an answer with; it is asked for once a connection. Of several SYNs nobody knows
 * which one is answered (Karn and Partridge, 1987): then it is not timed. */
ALWAYS void time_answer(struct serai_flow *flow)
{
	__u64 now, passed;

	if (!(flow->handshake & HANDSHAKE_TIMED))
		return;
	flow->handshake &= ~HANDSHAKE_TIMED;
	now = bpf_ktime_get_ns();
	passed = now > flow->first_ns ? (now - flow->first_ns) / 1000 : 0;
	flow->rtt_us = passed > 0xffffffff ? 0xffffffff : (__u32)passed ?: 1;
}

/* The first packet of a side. Returns 0 where it cannot be one. */
ALWAYS int greet(struct serai_flow *flow, const struct packet *p, __u32 side)
{
	__u32 end = end_of(p), other = OPAQUE(!side);

	side = OPAQUE(side & 1);
	if (flow->window[other] && !(flow->scale[side] & SCALE_UNKNOWN)) {
		/* It answers a SYN: with one of its own, or with a reset that acknowledges it (RFC 9293, 3.10.7.3). */
		if (p->tcp_flags & TCP_ACK && p->tcp_flags & (TCP_SYN | TCP_RST) && p->ack != flow->end[other] &&
		    (is_after(p->ack, flow->end[other]) || is_after(flow->end[other] - ACK_LAG, p->ack)))
			return 0;
		if (p->tcp_flags & TCP_RST) {
			if (!(p->tcp_flags & TCP_ACK) || p->ack != flow->end[other])
				return 0;
			flow->tcp_flags[side] |= p->tcp_flags;
			flow->handshake |= HANDSHAKE_REFUSED;
			return 1;
		}
		if (!(p->tcp_flags & TCP_SYN)) {
			/* To that side the connection is an old one. It says so, and the answer is a reset (RFC 5961). */
			flow->end[side] = p->ack;
			return 1;
		}
		if (p->tcp_flags & TCP_ACK)
			time_answer(flow);
	}
	flow->tcp_flags[side] |= p->tcp_flags;
	if (p->tcp_flags & TCP_SYN)
		flow->scale[side] = p->tcp_scale;
	else
		flow->scale[side] = SCALE_UNKNOWN;
	flow->end[side] = end;
	flow->window[side] = granted(flow, p, side) ?: 1;
	flow->limit[side] = end + (flow->scale[side] & SCALE_UNKNOWN ? UNKNOWN_WINDOW : flow->window[other]);
	if (p->tcp_flags & TCP_ACK) {
		if (!flow->window[other])
			flow->end[other] = p->ack;
		flow->limit[other] = p->ack + flow->window[side];
	}
	return 1;
}

/* Says whether a TCP segment is one that its connection can carry, and follows it. After "Real Stateful TCP Packet
 * Filtering in IP Filter" (van Rooij, 2000), with bounds twice as wide where a legal stream comes near them: other
 * processors may be following the same connection at the same moment. */
ALWAYS int follow_tcp(struct serai_flow *flow, const struct packet *p, int side)
{
	int other = !side, reset = p->tcp_flags & TCP_RST;
	__u32 end = end_of(p);
	__u32 mine = flow->window[side & 1], theirs = flow->window[other & 1], sent = flow->end[side & 1];
	__u32 slack = reset ? 0 : at_most(theirs, MOST_SLACK), lag, window, ack;

	if (!mine)
		return greet(flow, p, side);
	if (!theirs && !(flow->scale[other & 1] & SCALE_UNKNOWN)) { /* nobody has answered its SYN yet */
		if (reset && p->seq != sent && p->seq != flow->end[other & 1])
			return 0;
		if (p->opens) { /* once more, perhaps with another number, or without the data of the first (RFC 7413) */
			if (is_after(end, sent) || is_after(sent - ACK_LAG, end))
				flow->end[side & 1] = flow->limit[side & 1] = end;
			flow->scale[side & 1] = p->tcp_scale;
			flow->handshake &= ~HANDSHAKE_TIMED;
			if (flow->syn_repeats != 0xffff)
				flow->syn_repeats++;
		}
		flow->tcp_flags[side & 1] |= p->tcp_flags;
		return reset || p->opens;
	}
	if (p->opens && side == flow->origin)
		return 1; /* its sender has forgotten the connection: the other side will say what it thinks of that */
	lag = (mine > ACK_LAG ? at_most(mine, MOST_SLACK) : ACK_LAG) * 2;
	ack = p->tcp_flags & TCP_ACK && !(reset && !p->ack) ? p->ack : flow->end[other & 1];
	if (is_after(p->seq, flow->limit[side & 1] + slack) || is_after(sent - theirs - slack - 1, end) ||
	    is_after(ack, flow->limit[other & 1] + (reset ? 0 : at_most(mine, MOST_SLACK))) || is_after(flow->end[other & 1] - lag, ack))
		return 0;
	if (reset && p->seq != sent)
		return 1; /* only the exact number ends the connection for certain (RFC 5961, 3.2) */
	window = granted(flow, p, side);
	if (is_after(end, sent))
		flow->end[side & 1] = end;
	if (window > mine)
		flow->window[side & 1] = window;
	if (is_after(ack + (window ?: 1), flow->limit[other & 1]))
		flow->limit[other & 1] = ack + (window ?: 1);
	if (p->tcp_flags & ~flow->tcp_flags[side & 1])
		flow->tcp_flags[side & 1] |= p->tcp_flags;
	return 1;
}

/* RFC 9260, 8.5: packets carry the tag that their receiver has asked for. In a live association another INIT only asks
 * (5.2.2): what it asks for stands beside (in `limit`), and holds when a cookie confirms it. */
ALWAYS int follow_sctp(struct serai_flow *flow, const struct packet *p, int side)
{
	__u32 mine = OPAQUE(side & 1), other = OPAQUE(!side), tag = flow->end[mine], asked = flow->limit[mine];
	int reflected = p->tcp_flags & TCP_URG;

	if (!p->opens && tag && p->seq != tag && p->seq != asked && !(reflected && p->seq == flow->end[other]))
		return 0;
	if (p->ack) {
		flow->limit[other] = p->ack;
		if (!flow->end[other])
			flow->end[other] = p->ack;
	}
	if (p->chunk == SCTP_COOKIE_ECHO && p->seq == asked) {
		flow->end[EGRESS] = flow->limit[EGRESS];
		flow->end[INGRESS] = flow->limit[INGRESS];
	}
	flow->tcp_flags[mine] |= p->tcp_flags;
	return 1;
}

/* The packet that opens a flow. */
ALWAYS void begin(struct serai_flow *flow, const struct packet *p, int side)
{
	if (p->key.protocol != IPPROTO_TCP) {
		follow_sctp(flow, p, side);
		return;
	}
	greet(flow, p, side);
	if (p->opens) {
		flow->first_ns = bpf_ktime_get_ns();
		flow->handshake = HANDSHAKE_TIMED;
	}
}

/* Returns 0 where the packet is none of the connection's: it is dropped, and the flow stays as it was. */
ALWAYS int follow(struct serai_flow *flow, const struct packet *p, int side)
{
	if (p->key.protocol == IPPROTO_TCP)
		return follow_tcp(flow, p, side);
	if (p->key.protocol == IPPROTO_SCTP)
		return follow_sctp(flow, p, side);
	return 1;
}
