/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts the messages that a link needs to work, as they come by: also those that are dropped for what they say. */
#pragma once

#include "parse.h"

struct address {
	__u32 words[4];
};

/* `about` is the address that the message asks for, offers or claims. */
APART int sight(const struct serai_vnic *vnic, int direction, int kind, const struct address *about)
{
	struct serai_sighting_key key = {};
	struct serai_sighting *seen;

	if (!vnic || !about)
		return 0;
	key.vnic = vnic->id;
	key.kind = kind;
	key.direction = direction;
	seen = bpf_map_lookup_elem(&sightings, &key);
	if (!seen) {
		struct serai_sighting first = {};

		bpf_map_update_elem(&sightings, &key, &first, BPF_NOEXIST);
		seen = bpf_map_lookup_elem(&sightings, &key);
	}
	if (!seen)
		return 0;
	__sync_fetch_and_add(&seen->packets, 1);
	seen->last_ns = now_ns();
	__builtin_memcpy(seen->address, about->words, sizeof(seen->address));
	return 1;
}
