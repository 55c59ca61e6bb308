/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Later fragments have no ports to judge by: they share the fate of their first.
 *
 * A datagram is remembered from its first fragment on, byte by byte: one that is written twice (RFC 5722) could
 * show its receiver other ports than the gate has judged. */
#pragma once

#include "parse.h"

ALWAYS struct serai_fragment_key fragment_key(const struct serai_vnic *vnic, int direction, const struct packet *p)
{
	__u32 mix = p->id ^ p->key.local[3] ^ p->key.remote[3] * 31;

	return (struct serai_fragment_key){
		.slot = vnic->slot, .direction = direction, .bucket = mix * 2654435761U >> 24 & (FRAGMENT_BUCKETS - 1),
	};
}

/* What is remembered of the datagram that `p` is a piece of, or NULL. */
ALWAYS struct serai_fragments *find_fragments(const struct serai_vnic *vnic, int direction, const struct packet *p,
					     __u64 now)
{
	struct serai_fragment_key key = fragment_key(vnic, direction, p);
	struct serai_fragments *known = bpf_map_lookup_elem(&fragments, &key);

	if (!known || !known->first_ns || now > known->first_ns + FRAGMENTS_SECONDS * 1000000000ULL || known->id != p->id ||
	    !same_address(known->local, p->key.local) || !same_address(known->remote, p->key.remote))
		return NULL;
	return known;
}

ALWAYS __u64 mark_units(struct serai_fragments *datagram, __u32 word, __u64 mask)
{
	asm volatile("" : "+r"(word)); /* what is checked and what is used must be one register */
	if (word >= FRAGMENT_UNITS / 64)
		return 0;
	return __sync_fetch_and_or(&datagram->seen[word], mask) & mask;
}

/* Marks the units from `first` up to `behind` as seen, and says whether one of them was before. */
APART int mark_fragment(struct serai_fragments *datagram, __u32 first, __u32 behind)
{
	__u32 word = first / 64, last = (behind - 1) / 64;
	__u64 head = ~0ULL << (first & 63), tail = ~0ULL >> (63 - ((behind - 1) & 63)), before;

	if (!datagram)
		return 1;
	if (word == last)
		return mark_units(datagram, word, head & tail) != 0;
	before = mark_units(datagram, word, head);
	for (int i = 0; i < FRAGMENT_UNITS / 64; i++) {
		/* Out of bounds ends the loop, which the verifier would otherwise go on with, each time anew. */
		if (++word >= last || word >= FRAGMENT_UNITS / 64)
			break;
		before |= mark_units(datagram, word, ~0ULL);
	}
	return (before | mark_units(datagram, last, tail)) != 0;
}

ALWAYS int is_fragment_sound(const struct packet *p)
{
	return p->size && p->piece + p->size <= IP_MAX_LENGTH && !(p->more && p->size & 7);
}

/* Remembers a datagram whose first fragment was let through. */
APART int remember_fragments(const struct serai_vnic *vnic, const struct packet *p, int direction)
{
	struct serai_fragments *known, *fresh;
	struct serai_fragment_key key;
	__u32 zero = 0;

	if (!vnic || !p)
		return 0;
	key = fragment_key(vnic, direction, p);
	fresh = bpf_map_lookup_elem(&blank, &zero);
	if (!fresh || bpf_map_update_elem(&fragments, &key, fresh, BPF_ANY))
		return 0; /* no room: the others will be dropped */
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known)
		return 0;
	known->flow = p->key;
	__builtin_memcpy(known->local, p->key.local, sizeof(known->local));
	__builtin_memcpy(known->remote, p->key.remote, sizeof(known->remote));
	known->id = p->id;
	known->units = (p->size + 7) / 8;
	mark_fragment(known, 0, known->units);
	asm volatile("" ::: "memory");
	known->first_ns = now_ns();
	return 1;
}
