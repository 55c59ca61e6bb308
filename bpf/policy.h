/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verdict on a new connection: a handful of lookups, however many policies there are. */
#pragma once

#include "maps.h"

ALWAYS __u64 identity_of(__u64 view, const __u32 *address)
{
	struct serai_endpoint_key endpoint = { .view = view };
	struct serai_prefix_key prefix = { .length = 64 + 128, .view = { (__u32)view, (__u32)(view >> 32) } };
	__u64 *identity;

	__builtin_memcpy(endpoint.address, address, sizeof(endpoint.address));
	__builtin_memcpy(prefix.address, address, sizeof(prefix.address));
	identity = bpf_map_lookup_elem(&endpoints, &endpoint);
	if (!identity)
		identity = bpf_map_lookup_elem(&prefixes, &prefix);
	return identity ? *identity : EVERYBODY;
}

ALWAYS const struct serai_page *find_page(__u64 list, __u32 protocol)
{
	struct serai_page_key key = { .list = list, .protocol = protocol };
	const struct serai_page *page = bpf_map_lookup_elem(&pages, &key);

	if (page)
		return page;
	key.protocol = ANY_PROTOCOL;
	return bpf_map_lookup_elem(&pages, &key);
}

/* Counts the intervals that start at or below the port: a subtraction's sign, not a branch, because the verifier walks
 * both sides of every branch. Unused starts are 65535, which counts too much for that port alone. */
ALWAYS const struct serai_decision *find_interval(const struct serai_page *page, __u16 port)
{
	__u32 at = 0;

#pragma unroll
	for (int i = 0; i < INTERVALS - 1; i++)
		at += ((__u32)page->first[i] - 1 - port) >> 31;
	if (at >= page->count)
		at = page->count - 1;
	return &page->decisions[at & (INTERVALS - 1)];
}

/* Returns NULL where nothing is written: the caller keeps the gate closed. */
ALWAYS const struct serai_decision *decide(__u64 ruleset, __u64 identity, __u32 protocol, __u16 port)
{
	struct serai_list_key key = { .ruleset = ruleset, .identity = identity };
	__u64 *list = bpf_map_lookup_elem(&lists, &key);
	__u64 next;

	if (!list) {
		key.identity = EVERYBODY;
		list = bpf_map_lookup_elem(&lists, &key);
	}
	if (!list)
		return NULL;
	next = *list;
	for (int depth = 0; depth < MAX_DEPTH; depth++) {
		const struct serai_page *page = find_page(next, protocol);
		const struct serai_decision *decision;

		if (!page)
			return NULL;
		decision = find_interval(page, port);
		if (decision->step != STEP_DESCEND)
			return decision->step == STEP_MISSING ? NULL : decision;
		next = decision->rule;
	}
	return NULL;
}
