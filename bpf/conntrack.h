/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* When a flow is over, and what may start it again. */
#pragma once

#include "parse.h"

#define SECONDS(n) ((n) * 1000000000ULL)

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
ALWAYS __u64 idle_limit_ns(const struct serai_flow *flow, __u8 protocol)
{
	if (protocol == IPPROTO_ICMP)
		return SECONDS(IDLE_ICMP);
	if (protocol != IPPROTO_TCP)
		return SECONDS(IDLE_OTHER);
	if (is_closing(flow))
		return SECONDS(IDLE_TCP_CLOSING);
	if (is_half_closed(flow))
		return SECONDS(IDLE_TCP_HALF_CLOSED);
	if (!flow->packets[EGRESS] || !flow->packets[INGRESS])
		return SECONDS(IDLE_TCP_OPENING);
	return SECONDS(IDLE_TCP_ESTABLISHED);
}

ALWAYS int is_over(const struct serai_flow *flow, const struct packet *p, __u64 now)
{
	if (now > flow->last_ns && now - flow->last_ns >= idle_limit_ns(flow, p->protocol))
		return 1;
	/* The same ports again: a new connection, to be judged anew. */
	return p->protocol == IPPROTO_TCP && p->opens && is_closing(flow);
}
