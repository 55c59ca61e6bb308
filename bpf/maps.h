/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the gate knows and remembers. serai/datapath/layout.py describes the same structs to Python; a test
 * compares the two through the object's BTF. Addresses and ports in keys are in network byte order. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "model.h" /* made by serai.datapath.build */

#define ALWAYS static __always_inline

enum serai_direction {
	EGRESS = 0,  /* from the VM: the tap's tc ingress */
	INGRESS = 1, /* to the VM: the tap's tc egress */
};

enum serai_step { STEP_MISSING = 0, STEP_ACCEPT = 1, STEP_DENY = 2, STEP_DESCEND = 3 };

#define FLAG_OBSERVE (1U << 0)        /* record what would be dropped, let it pass */
#define FLAG_MORE_ADDRESSES (1U << 1) /* the vNIC has addresses beside the first: see `addresses` */

#define ANY_PROTOCOL 256
#define EVERYBODY 0 /* the identity of whoever no list names */
#define INTERVALS 8
#define MAX_DEPTH 6 /* 8 intervals a page: 6 levels cover 65,536 ports */

/* `ifindex`, `flags` and `judged_by` come first: see copy_vnic(). */
struct serai_vnic {
	__u32 ifindex;
	__u32 flags;
	__u64 judged_by; /* names view, rulesets and mode: flows judged by anything else are judged again */
	__u64 id;
	__u64 view;
	__u64 ruleset[2]; /* by direction */
	__u32 address;
	__u8 mac[6];
	__u8 pad[6];
};

struct serai_address_key {
	__u64 vnic;
	__u32 address;
	__u32 pad;
};

struct serai_endpoint_key {
	__u64 view;
	__u32 address;
	__u32 pad;
};

struct serai_prefix_key {
	__u32 length; /* in bits, the view's 64 included */
	__u32 view[2];
	__u32 address;
};

struct serai_list_key {
	__u64 ruleset;
	__u64 identity;
};

struct serai_page_key {
	__u64 list;
	__u32 protocol;
	__u32 pad;
};

struct serai_decision {
	__u64 rule;
	__u64 staged_rule;
	__u8 step;
	__u8 staged_step;
	__u8 pad[6];
};

struct serai_page {
	__u16 count;
	__u16 first[INTERVALS - 1]; /* where intervals 1, 2, ... start; interval 0 starts at port 0 */
	struct serai_decision decisions[INTERVALS];
};

struct serai_flow_key {
	__u32 local;
	__u32 remote;
	__u16 local_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 asked; /* of an ICMP echo: by or of the VM */
	__u8 pad[2];
};

enum serai_asked { ASKED_NOTHING = 0, ASKED_BY_VM = 1, ASKED_OF_VM = 2 };

struct serai_flow {
	__u64 first_ns; /* CLOCK_MONOTONIC */
	__u64 last_ns;
	__u64 packets[2]; /* by direction; a GSO super-packet counts the segments it will become */
	__u64 bytes[2];   /* as on the tap, Ethernet header included */
	__u64 judged_by;
	__u64 identity; /* the remote's when the flow was judged */
	__u64 rule;
	__u64 staged_rule;
	__u8 origin; /* the direction of the packet that opened it */
	__u8 step;
	__u8 staged_step;
	__u8 tcp_flags[2]; /* all flags seen, by direction */
	__u8 pad[3];
};

struct serai_denial_key {
	__u64 vnic;
	__u32 remote;
	__u16 port; /* as judged: the service's port, or ICMP type and code */
	__u8 protocol;
	__u8 direction;
	__u8 reason;
	__u8 observed; /* 1: it passed, because the vNIC only observes */
	__u8 pad[6];
};

struct serai_denial {
	__u64 packets;
	__u64 bytes;
	__u64 last_ns;
	__u64 rule;
	__u64 identity;
};

struct serai_drops {
	__u64 packets[2][REASON_SLOTS]; /* by direction and reason */
};

/* The loader sets max_entries; what stands here is for a machine of modest size. Tables that follow policy do
 * not preallocate: their memory follows what is loaded. */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct serai_vnic);
} vnics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_address_key);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_endpoint_key);
	__type(value, __u64);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_prefix_key);
	__type(value, __u64);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1048576);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_list_key);
	__type(value, __u64);
} lists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_page_key);
	__type(value, struct serai_page);
} pages SEC(".maps");

/* One flow table per vNIC: a VM that opens a million flows fills its own table and nobody else's. */
struct serai_flow_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(key_size, sizeof(struct serai_flow_key));
	__uint(value_size, sizeof(struct serai_flow));
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__array(values, struct serai_flow_table);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_PERCPU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct serai_denial_key);
	__type(value, struct serai_denial);
} denials SEC(".maps");

/* Beside `denials`, which may forget under a flood: these never do. vNIC 0 stands for unknown taps. Not per CPU: that
 * would cost 512 bytes a vNIC on every processor of the host. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, struct serai_drops);
} drops SEC(".maps");
