/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the gate knows and remembers. serai/datapath/layout.py describes the same structs to Python; a test
 * compares the two through the object's BTF. Addresses have 16 bytes, IPv4 as ::ffff:a.b.c.d; they and the ports
 * in keys are in network byte order. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "model.h" /* made by serai.datapath.build */

#define ALWAYS static __always_inline
/* A global function is verified once, by itself, whatever its callers know. It gets scalars, the context and pointers
 * that it must check, and returns a scalar. */
#define APART __noinline

enum serai_direction {
	EGRESS = 0,  /* from the VM: the tap's tc ingress */
	INGRESS = 1, /* to the VM: the tap's tc egress */
};

enum serai_step { STEP_MISSING = 0, STEP_ACCEPT = 1, STEP_DENY = 2, STEP_DESCEND = 3 };

#define FLAG_OBSERVE (1U << 0)        /* record what would be dropped, let it pass */
#define FLAG_MORE_ADDRESSES (1U << 1) /* it may use addresses that are not in its record: see `addresses` */
#define FLAG_MORE_MACS (1U << 2)      /* the same of MAC addresses: see `macs` */
#define FLAG_SERVES_DHCP (1U << 3)
#define FLAG_ROUTER (1U << 4)
#define FLAG_TUNNELS (1U << 5)

#define ANY_PROTOCOL 256
#define EVERYBODY 0 /* the identity of whoever no list names */
#define UNKNOWN_SLOT 0
#define INTERVALS 8
#define MAX_DEPTH 6 /* 8 intervals a page: 6 levels cover 65,536 ports */
#define ETHERTYPES 4
#define TAPS 65536 /* a power of two */

/* A record never changes while a tap points at it: user space writes another one and moves the tap's pointer. */
struct serai_vnic {
	__u32 ifindex;
	__u32 flags;
	__u64 judged_by; /* names view, rulesets and mode: flows judged by anything else are judged again */
	__u8 mac[6];
	__u8 pad[2];
	__u32 slot;          /* its place in `meters` and `flows` */
	__u32 flow_rate;     /* new flows a second; 0: no limit */
	__u32 address[3][4]; /* the first IPv4 and IPv6 address, and the link-local one; :: where there is none */
	/* What follows is for new flows only. */
	__u64 id;
	__u64 view;
	__u64 ruleset[2];             /* by direction */
	__u16 ethertypes[ETHERTYPES]; /* in network byte order; 0 where unused */
	/* CLOCK_MONOTONIC: until then TCP connections are taken whose beginning nobody has seen: the VM has come from another host,
	 * and not all of its flows with it. 0: never. */
	__u64 amid_until_ns;
};

/* Which addresses a vNIC may use with which MAC: the address is the only part that may be a prefix. */
struct serai_address_key {
	__u32 length; /* in bits, the 128 of vNIC and MAC included */
	__u32 vnic[2];
	__u8 mac[6];
	__u8 pad[2];
	__u32 address[4];
};

struct serai_mac_key {
	__u64 vnic;
	__u8 mac[6];
	__u8 pad[2];
};

struct serai_endpoint_key {
	__u64 view;
	__u32 address[4];
};

struct serai_prefix_key {
	__u32 length; /* in bits, the view's 64 included */
	__u32 view[2];
	__u32 address[4];
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
	__u32 local[4];
	__u32 remote[4];
	__u16 local_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 asked; /* of an ICMP echo: by or of the VM */
	__u8 pad[2];
};

enum serai_asked { ASKED_NOTHING = 0, ASKED_BY_VM = 1, ASKED_OF_VM = 2 };

/* What every packet needs comes first: it is read where memory is cold. */
struct serai_flow {
	__u64 last_ns; /* CLOCK_MONOTONIC */
	__u64 judged_by;
	__u8 origin; /* the direction of the packet that opened it */
	__u8 step;
	__u8 staged_step;
	__u8 tcp_flags[2]; /* all flags seen, by direction */
	__u8 scale[2];     /* TCP: the window scale offered, and SCALE_OFFERED */
	__u8 pad;
	/* By the direction in which the sequence numbers, or the verification tags, travel: see conntrack.h. */
	__u32 end[2];    /* TCP: behind the last byte sent. SCTP: the tag that packets carry, 0 while unknown */
	__u32 limit[2];  /* TCP: up to where the other side has allowed it to send. SCTP: the tag last asked for */
	__u32 window[2]; /* TCP: the widest window that this side has granted; 0: it has not spoken */
	__u64 packets[2]; /* by direction; a GSO super-packet counts the segments it will become */
	__u64 bytes[2];   /* as on the tap, Ethernet header included */
	__u64 first_ns; /* of a SYN to the nanosecond, of others as of the last tick */
	__u64 identity; /* the remote's when the flow was judged */
	__u64 rule;
	__u64 staged_rule;
	/* TCP: how it began. */
	__u32 rtt_us;      /* from its SYN to the first SYN-ACK; 0: not known */
	__u16 syn_repeats; /* SYNs that came once more before there was an answer; no more than fit */
	__u8 handshake;    /* HANDSHAKE_ bits */
	__u8 reserved;
};

#define HANDSHAKE_REFUSED (1U << 0) /* the answer to the SYN was a reset */
#define HANDSHAKE_TIMED (1U << 1)   /* one SYN has come, at `first_ns` to the nanosecond, and no answer yet */

/* Where the pieces of one datagram have been seen; it is remembered from its first fragment on. */
struct serai_fragment_key {
	__u32 slot;
	__u16 bucket; /* a vNIC has so many, and its datagrams displace no one else's */
	__u8 direction;
	__u8 pad;
};

#define FRAGMENT_BUCKETS 256
#define FRAGMENT_UNITS 8192 /* of 8 bytes: offsets have 13 bits */

struct serai_fragments {
	struct serai_flow_key flow; /* whose packets and bytes the later ones are */
	__u64 first_ns;             /* 0: being written */
	__u32 local[4];
	__u32 remote[4];
	__u32 id;
	__u32 poisoned;
	__u32 units; /* how many have been seen */
	__u32 total; /* and how many there are; 0 until the last fragment has come */
	__u64 seen[FRAGMENT_UNITS / 64]; /* one bit a unit */
};

struct serai_denial_key {
	__u64 vnic;
	__u64 identity; /* the remote's */
	__u16 port;     /* as judged: the service's port, or ICMP type and code */
	__u8 protocol;
	__u8 direction;
	__u8 reason;
	__u8 observed; /* 1: it passed, because the vNIC only observes */
	__u8 staged;   /* 1: staged policies would accept what a rule denied */
	__u8 pad;
};

struct serai_denial {
	__u64 packets;
	__u64 bytes;
	__u64 last_ns;
	__u64 sampled_ns; /* when it was last told to the ring */
	__u64 rule;
	__u32 remote[4]; /* of the last packet */
};

/* Messages that a link needs to work, let through or not. */
struct serai_sighting_key {
	__u64 vnic;
	__u8 kind; /* SIGHTING_... */
	__u8 direction;
	__u8 pad[6];
};

struct serai_sighting {
	__u64 packets;
	__u64 last_ns;
	__u32 address[4]; /* that the last one asked for, offered or claimed; :: where none */
};

/* What is counted for ever, one a vNIC; the first is of taps that nobody is known behind. */
struct serai_meter {
	__u64 drops[2][REASON_SLOTS]; /* packets by direction and reason */
	__u64 lost_denials;           /* packets that `denials` had no room for */
	__u64 lost_events;            /* events that the ring had no room for */
	__u32 second;                 /* the one that the next two are about, roughly */
	__u32 opened[2];              /* new flows by direction */
	__u32 denied;                 /* new keys in `denials` */
};

enum serai_event_kind { EVENT_DROP = 1, EVENT_ENDED = 2 };

/* A sample of what is dropped. `denials` and `meters` are the record. */
struct serai_drop_event {
	__u32 kind;
	__u32 length; /* of the frame */
	__u64 ns;     /* CLOCK_MONOTONIC */
	__u64 vnic;
	__u64 rule;
	__u64 identity;
	struct serai_flow_key packet; /* as far as it could be read */
	__u16 port;
	__u8 direction; /* of the packet */
	__u8 reason;
	__u8 observed;
	__u8 tcp_flags;
	__u8 pad[2];
};

/* A flow that ended in the gate: its ports began another connection, or policy cut it. */
struct serai_ended_event {
	__u32 kind;
	__u32 pad;
	__u64 vnic;
	struct serai_flow_key key;
	struct serai_flow flow;
};

struct serai_settings {
	/* What makes time of the kernel's ticks: reading them is a load, asking for the time a call. */
	__u64 tick_ns;
	__u64 offset_ns;
	__u64 idle_ns[IDLE_CLASSES];
};

/* Both clocks at one moment, for user space to compare. */
struct serai_clocks {
	__u64 ticks;
	__u64 ns;
};

/* The loader sets max_entries; what stands here is for a machine of modest size. Tables that follow policy do
 * not preallocate: their memory follows what is loaded. Arrays are looked up without a call. */

/* By the low bits of the interface index: the record of its vNIC. 0 is nobody's; the record itself says which
 * interface it is for, and where two interfaces meet here the later one is in `far_taps`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TAPS);
	__type(key, __u32);
	__type(value, __u32);
} taps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, __u32);
} far_taps SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct serai_vnic);
} vnics SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct serai_meter);
} meters SEC(".maps");

/* Which slot a vNIC has: read by user space only, but pinned with the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_address_key);
	__type(value, __u32);
} addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_mac_key);
	__type(value, __u32);
} macs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROOM_ENDPOINTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_endpoint_key);
	__type(value, __u64);
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, ROOM_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_prefix_key);
	__type(value, __u64);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROOM_LISTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_list_key);
	__type(value, __u64);
} lists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ROOM_PAGES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_page_key);
	__type(value, struct serai_page);
} pages SEC(".maps");

/* One flow table per vNIC: a VM that opens a million flows fills its own table and nobody else's. Its memory is taken at
 * once (some 220 bytes a flow): to allocate while inserting would make a new flow half as dear again. */
struct serai_flow_table {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(key_size, sizeof(struct serai_flow_key));
	__uint(value_size, sizeof(struct serai_flow));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__array(values, struct serai_flow_table);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_fragment_key);
	__type(value, struct serai_fragments);
} fragments SEC(".maps");

/* What a fresh entry of `fragments` looks like: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct serai_fragments);
} blank SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct serai_denial_key);
	__type(value, struct serai_denial);
} denials SEC(".maps");

/* Room for every kind in both directions of every vNIC: none takes it from another. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SLOTS * 2 * SIGHTING_KINDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct serai_sighting_key);
	__type(value, struct serai_sighting);
} sightings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct serai_settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct serai_clocks);
} clocks SEC(".maps");

/* CLOCK_MONOTONIC, as of the last tick. */
ALWAYS __u64 now_ns(void)
{
	__u32 zero = 0;
	const struct serai_settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set ? bpf_jiffies64() * set->tick_ns + set->offset_ns : 0;
}
