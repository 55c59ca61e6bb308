// SPDX-License-Identifier: Apache-2.0
/*
 * labd: the one daemon of a lab guest.
 *
 * Services: TCP banner on 22 23 80 443 5432 8080 (host name, then close), TCP
 * echo 7777, TCP ticks 7778 (a numbered line every 10 ms), UDP 53 and 9999
 * (host name back; every datagram is counted).
 *
 * Control: lines on /dev/ttyS1, "VERB ID ARGUMENT...", one JSON object per
 * reply. Each command runs in a thread of its own. A client that lost its
 * connection (the VM moved to another host) sends its open commands again: an
 * ID that is still running is ignored, one that is done gets its stored reply
 * once more, so every command runs exactly once.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define CONTROL_DEVICE "/dev/ttyS1"
#define LINE_MAX_BYTES 512
#define WORDS_MAX 12
#define ID_MAX 40
#define REPLY_MAX 320
#define SLOTS 512 /* commands remembered: running ones and recent replies */
#define MARKER_MAX 64
#define STACK_BYTES (96 * 1024)

static const int banner_ports[] = {22, 23, 80, 443, 5432, 8080};
static const int udp_ports[] = {53, 9999};
#define ECHO_PORT 7777
#define TICK_PORT 7778
#define TICK_NANOSECONDS 10000000L
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char banner[66];
static size_t banner_length;
static unsigned long udp_received[COUNT(udp_ports)];

/* ---- threads ------------------------------------------------------------ */

static int start_thread(void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int failed;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	failed = pthread_create(&thread, &attributes, body, argument);
	pthread_attr_destroy(&attributes);
	return failed;
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void sleep_ns(long long nanoseconds)
{
	struct timespec span = {nanoseconds / 1000000000LL, (long)(nanoseconds % 1000000000LL)};

	nanosleep(&span, NULL);
}

/* ---- control channel ---------------------------------------------------- */

enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_DONE };

struct slot {
	enum slot_state state;
	char id[ID_MAX + 1];
	char reply[REPLY_MAX];
};

struct command {
	struct slot *slot;
	int words;
	char *word[WORDS_MAX];
	char line[LINE_MAX_BYTES];
};

static struct slot slots[SLOTS];
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static int control = -1;

static void send_line(const char *text)
{
	char line[REPLY_MAX + 2];
	/* The leading newline ends a line that a vanished client left half read. */
	int length = snprintf(line, sizeof line, "\n%s\n", text);
	int sent = 0;

	pthread_mutex_lock(&control_lock);
	while (sent < length) {
		ssize_t n = write(control, line + sent, (size_t)(length - sent));

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0)
			sent += (int)n;
	}
	pthread_mutex_unlock(&control_lock);
}

static void refuse(const char *id, const char *why)
{
	char text[REPLY_MAX];

	snprintf(text, sizeof text, "{\"id\":\"%s\",\"error\":\"%s\"}", id, why);
	send_line(text);
}

/* Ends a command: FORMAT gives the members of the reply object after "id". */
__attribute__((format(printf, 2, 3)))
static void finish(struct command *command, const char *format, ...)
{
	char members[REPLY_MAX - ID_MAX - 16];
	char reply[REPLY_MAX];
	va_list values;

	va_start(values, format);
	vsnprintf(members, sizeof members, format, values);
	va_end(values);
	snprintf(reply, sizeof reply, "{\"id\":\"%s\",%s}", command->slot->id, members);
	pthread_mutex_lock(&slots_lock);
	memcpy(command->slot->reply, reply, sizeof reply);
	command->slot->state = SLOT_DONE;
	pthread_mutex_unlock(&slots_lock);
	send_line(reply);
}

static void fail(struct command *command, const char *why)
{
	finish(command, "\"error\":\"%s\"", why);
}

static bool valid_id(const char *id)
{
	size_t length = strlen(id);

	return length > 0 && length <= ID_MAX &&
	       strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == length;
}

/* Takes a slot for a new ID; NULL when the line needs no (further) work. */
static struct slot *take_slot(const char *id)
{
	static unsigned next;
	char again[REPLY_MAX] = "";
	struct slot *found = NULL;
	bool known = false;
	unsigned i;

	pthread_mutex_lock(&slots_lock);
	for (i = 0; i < SLOTS && !known; i++) {
		if (slots[i].state == SLOT_FREE || strcmp(slots[i].id, id) != 0)
			continue;
		known = true;
		if (slots[i].state == SLOT_DONE)
			memcpy(again, slots[i].reply, sizeof again);
	}
	for (i = 0; i < SLOTS && !known && !found; i++, next = (next + 1) % SLOTS)
		if (slots[next].state != SLOT_RUNNING)
			found = &slots[next];
	if (found) {
		found->state = SLOT_RUNNING;
		snprintf(found->id, sizeof found->id, "%s", id);
	}
	pthread_mutex_unlock(&slots_lock);
	if (again[0])
		send_line(again);
	if (!known && !found)
		refuse(id, "too many commands at once");
	return found;
}

/* ---- arguments ---------------------------------------------------------- */

static bool number(const char *text, long lowest, long highest, long *value)
{
	char *end;

	errno = 0;
	*value = strtol(text, &end, 10);
	return !errno && end != text && !*end && *value >= lowest && *value <= highest;
}

static bool endpoint(const char *ip, const char *port, struct sockaddr_in *address)
{
	long value;

	memset(address, 0, sizeof *address);
	address->sin_family = AF_INET;
	if (inet_pton(AF_INET, ip, &address->sin_addr) != 1 || !number(port, 0, 65535, &value))
		return false;
	address->sin_port = htons((uint16_t)value);
	return true;
}

static bool hardware_address(const char *text, uint8_t mac[ETH_ALEN])
{
	char rest;

	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		      &mac[3], &mac[4], &mac[5], &rest) == 6;
}

/* ---- probe -------------------------------------------------------------- */

static const char *error_word(int error)
{
	switch (error) {
	case ECONNREFUSED: return "refused";
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN: return "unreachable";
	case EACCES:
	case EPERM: return "prohibited";
	case ECONNRESET:
	case EPIPE: return "reset";
	case ETIMEDOUT:
	case EAGAIN: return "timeout";
	default: return "failed";
	}
}

static int wait_for(int fd, short events, double deadline)
{
	struct pollfd poller = {.fd = fd, .events = events};
	double left = deadline - now_ms();

	if (left <= 0 || poll(&poller, 1, (int)left + 1) == 0)
		return ETIMEDOUT;
	return 0;
}

static int pending_error(int fd)
{
	int error = 0;
	socklen_t size = sizeof error;

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	return error;
}

static int tcp_exchange(int fd, double deadline, char *peer, size_t size)
{
	size_t length = 0;
	int error = wait_for(fd, POLLOUT, deadline);

	if (!error)
		error = pending_error(fd);
	while (!error && length < size - 1) {
		ssize_t n;

		error = wait_for(fd, POLLIN, deadline);
		if (error)
			break;
		n = read(fd, peer + length, size - 1 - length);
		if (n == 0)
			break;
		if (n > 0)
			length += (size_t)n;
		else if (errno != EAGAIN)
			error = errno;
	}
	peer[length] = 0;
	return error;
}

static int datagram_exchange(int fd, const void *request, size_t request_size, double deadline,
			     char *peer, size_t size)
{
	ssize_t n;
	int error;

	if (send(fd, request, request_size, 0) < 0)
		return errno;
	error = wait_for(fd, POLLIN, deadline);
	if (error)
		return error;
	n = read(fd, peer, size - 1);
	if (n < 0)
		return errno;
	peer[n] = 0;
	return 0;
}

/* Only the first word of a banner, and only what is safe inside JSON. */
static void clean(char *text)
{
	text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] = 0;
}

static void run_probe(struct command *command)
{
	const char *protocol = command->word[2];
	bool tcp = !strcmp(protocol, "tcp"), icmp = !strcmp(protocol, "icmp");
	struct icmphdr request = {.type = ICMP_ECHO};
	struct sockaddr_in address;
	char peer[MARKER_MAX] = "";
	double began = now_ms(), deadline;
	int fd, error = 0;
	long timeout;

	if (!tcp && !icmp && strcmp(protocol, "udp")) {
		fail(command, "protocol is not tcp, udp or icmp");
		return;
	}
	if (!endpoint(command->word[3], command->word[4], &address)) {
		fail(command, "bad IP address or port");
		return;
	}
	if (!number(command->word[5], 1, 600000, &timeout)) {
		fail(command, "bad timeout");
		return;
	}
	deadline = began + (double)timeout;
	fd = socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    icmp ? IPPROTO_ICMP : 0);
	if (fd < 0) {
		fail(command, "no socket");
		return;
	}
	if (icmp)
		address.sin_port = 0;
	if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
		error = errno;
	else if (tcp)
		error = tcp_exchange(fd, deadline, peer, sizeof peer);
	else if (icmp)
		error = datagram_exchange(fd, &request, sizeof request, deadline, peer, sizeof peer);
	else
		error = datagram_exchange(fd, "probe\n", 6, deadline, peer, sizeof peer);
	close(fd);
	if (icmp || error)
		peer[0] = 0;
	clean(peer);
	finish(command, "\"ok\":%s,\"error\":\"%s\",\"ms\":%.2f,\"peer\":\"%s\"", error ? "false" : "true",
	       error ? error_word(error) : "", now_ms() - began, peer);
}

/* ---- forged frames ------------------------------------------------------ */

struct card {
	int fd;
	struct sockaddr_ll link;
	uint8_t mac[ETH_ALEN];
	uint32_t ip;
};

struct arp_body {
	uint16_t hardware, protocol;
	uint8_t hardware_size, protocol_size;
	uint16_t operation;
	uint8_t sender_mac[ETH_ALEN];
	uint32_t sender_ip;
	uint8_t target_mac[ETH_ALEN];
	uint32_t target_ip;
} __attribute__((packed));

static bool open_card(struct card *card)
{
	struct ifreq request = {.ifr_name = "eth0"};
	int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool ok;

	memset(card, 0, sizeof *card);
	card->link.sll_family = AF_PACKET;
	card->link.sll_halen = ETH_ALEN;
	memset(card->link.sll_addr, 0xff, ETH_ALEN);
	ok = probe >= 0 && !ioctl(probe, SIOCGIFINDEX, &request);
	card->link.sll_ifindex = request.ifr_ifindex;
	ok = ok && !ioctl(probe, SIOCGIFHWADDR, &request);
	memcpy(card->mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	ok = ok && !ioctl(probe, SIOCGIFADDR, &request);
	memcpy(&card->ip, &((struct sockaddr_in *)&request.ifr_addr)->sin_addr, sizeof card->ip);
	if (probe >= 0)
		close(probe);
	card->fd = ok ? socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) : -1;
	return card->fd >= 0;
}

static uint16_t internet_checksum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static size_t put_ethernet(uint8_t *frame, const uint8_t source[ETH_ALEN], uint16_t type)
{
	struct ether_header header;

	memset(header.ether_dhost, 0xff, ETH_ALEN);
	memcpy(header.ether_shost, source, ETH_ALEN);
	header.ether_type = htons(type);
	memcpy(frame, &header, sizeof header);
	return sizeof header;
}

static size_t put_udp(uint8_t *frame, uint32_t source_ip, const char *marker)
{
	uint16_t payload = (uint16_t)strlen(marker);
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
			   .saddr = source_ip, .daddr = INADDR_BROADCAST};
	struct udphdr udp = {.source = htons(9), .dest = htons(9)};

	ip.tot_len = htons((uint16_t)(sizeof ip + sizeof udp + payload));
	ip.check = internet_checksum(&ip, sizeof ip);
	udp.len = htons((uint16_t)(sizeof udp + payload)); /* checksum 0: none, as IPv4 allows */
	memcpy(frame, &ip, sizeof ip);
	memcpy(frame + sizeof ip, &udp, sizeof udp);
	memcpy(frame + sizeof ip + sizeof udp, marker, payload);
	return sizeof ip + sizeof udp + payload;
}

/* A TCP SYN. Its checksum is left out: whether a frame passes is for those on the way to say. */
static size_t put_syn(uint8_t *frame, uint32_t source_ip, uint32_t target_ip, uint16_t port, const char *marker)
{
	uint16_t payload = (uint16_t)strlen(marker);
	struct iphdr ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
			   .saddr = source_ip, .daddr = target_ip};
	struct tcphdr tcp = {.source = htons(40000), .dest = htons(port), .doff = 5, .syn = 1,
			     .window = htons(1024)};

	ip.tot_len = htons((uint16_t)(sizeof ip + sizeof tcp + payload));
	ip.check = internet_checksum(&ip, sizeof ip);
	memcpy(frame, &ip, sizeof ip);
	memcpy(frame + sizeof ip, &tcp, sizeof tcp);
	memcpy(frame + sizeof ip + sizeof tcp, marker, payload);
	return sizeof ip + sizeof tcp + payload;
}

static size_t put_arp(uint8_t *frame, const uint8_t sender_mac[ETH_ALEN], uint32_t sender_ip,
		      const char *marker)
{
	struct arp_body arp = {.hardware = htons(1), .protocol = htons(ETHERTYPE_IP),
			       .hardware_size = ETH_ALEN, .protocol_size = 4, .operation = htons(2),
			       .sender_ip = sender_ip, .target_ip = sender_ip};

	memcpy(arp.sender_mac, sender_mac, ETH_ALEN);
	memset(arp.target_mac, 0xff, ETH_ALEN);
	memcpy(frame, &arp, sizeof arp);
	memcpy(frame + sizeof arp, marker, strlen(marker)); /* in the padding */
	return sizeof arp + strlen(marker);
}

/* Builds the frame; 0 when KIND is unknown or FAKE does not fit it. */
static size_t forged_frame(uint8_t *frame, const struct card *card, const char *kind,
			   const char *fake, const char *marker)
{
	uint8_t mac[ETH_ALEN];
	uint32_t ip;

	if (!strcmp(kind, "mac") && hardware_address(fake, mac))
		return put_ethernet(frame, mac, ETHERTYPE_IP) +
		       put_udp(frame + sizeof(struct ether_header), card->ip, marker);
	if (!strcmp(kind, "ip") && inet_pton(AF_INET, fake, &ip) == 1)
		return put_ethernet(frame, card->mac, ETHERTYPE_IP) +
		       put_udp(frame + sizeof(struct ether_header), ip, marker);
	if (!strcmp(kind, "arp") && inet_pton(AF_INET, fake, &ip) == 1)
		return put_ethernet(frame, card->mac, ETHERTYPE_ARP) +
		       put_arp(frame + sizeof(struct ether_header), card->mac, ip, marker);
	if (!strcmp(kind, "sha") && hardware_address(fake, mac))
		return put_ethernet(frame, card->mac, ETHERTYPE_ARP) +
		       put_arp(frame + sizeof(struct ether_header), mac, card->ip, marker);
	if (!strcmp(kind, "own"))
		return put_ethernet(frame, card->mac, ETHERTYPE_ARP) +
		       put_arp(frame + sizeof(struct ether_header), card->mac, card->ip, marker);
	return 0;
}

static long send_frames(struct card *card, const uint8_t *frame, size_t length, long count)
{
	long sent = 0, i;

	for (i = 0; i < count; i++) {
		if (sendto(card->fd, frame, length < ETH_ZLEN ? ETH_ZLEN : length, 0,
			   (struct sockaddr *)&card->link, sizeof card->link) > 0)
			sent++;
	}
	return sent;
}

/* knock ID COUNT MAC IP TARGET PORT MARKER: TCP SYNs in broadcast frames; "-" stands for the own MAC or IP. */
static void run_knock(struct command *command)
{
	const char *mac = command->word[3], *ip = command->word[4], *marker = command->word[7];
	uint8_t frame[256] = {0}, source_mac[ETH_ALEN];
	uint32_t source_ip, target_ip;
	struct card card;
	long count, port;
	size_t length;

	if (!number(command->word[2], 1, 100000, &count) || !number(command->word[6], 1, 65535, &port) ||
	    inet_pton(AF_INET, command->word[5], &target_ip) != 1 || strlen(marker) > MARKER_MAX) {
		fail(command, "bad count, target or port, or marker too long");
		return;
	}
	if (!open_card(&card)) {
		fail(command, "cannot open eth0 for raw frames");
		return;
	}
	memcpy(source_mac, card.mac, ETH_ALEN);
	source_ip = card.ip;
	if ((strcmp(mac, "-") && !hardware_address(mac, source_mac)) ||
	    (strcmp(ip, "-") && inet_pton(AF_INET, ip, &source_ip) != 1)) {
		close(card.fd);
		fail(command, "the source is no address");
		return;
	}
	length = put_ethernet(frame, source_mac, ETHERTYPE_IP);
	length += put_syn(frame + length, source_ip, target_ip, (uint16_t)port, marker);
	finish(command, "\"sent\":%ld", send_frames(&card, frame, length, count));
	close(card.fd);
}

static void run_forge(struct command *command)
{
	const char *marker = command->word[5];
	uint8_t frame[256] = {0};
	struct card card;
	size_t length;
	long count;

	if (!number(command->word[3], 1, 100000, &count) || strlen(marker) > MARKER_MAX) {
		fail(command, "bad count, or marker too long");
		return;
	}
	if (!open_card(&card)) {
		fail(command, "cannot open eth0 for raw frames");
		return;
	}
	length = forged_frame(frame, &card, command->word[2], command->word[4], marker);
	if (!length) {
		close(card.fd);
		fail(command, "kind is not mac, ip, arp, sha or own, or the forged address does not fit it");
		return;
	}
	finish(command, "\"sent\":%ld", send_frames(&card, frame, length, count));
	close(card.fd);
}

/* ---- flood -------------------------------------------------------------- */

static void run_flood(struct command *command)
{
	const char *marker = command->word[7];
	struct sockaddr_in address;
	long rate, seconds, sent = 0, i;
	double began = now_ms();
	int fd;

	if (strcmp(command->word[2], "udp") || !endpoint(command->word[3], command->word[4], &address) ||
	    !number(command->word[5], 1, 100000, &rate) || !number(command->word[6], 1, 3600, &seconds)) {
		fail(command, "flood needs: udp IP PORT PER_SECOND SECONDS MARKER");
		return;
	}
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (i = 0; fd >= 0 && i < rate * seconds; i++) {
		double early = began + (double)i * 1e3 / (double)rate - now_ms();

		if (now_ms() - began > (double)seconds * 1e3)
			break; /* the guest is too slow for this rate: keep the time, not the count */
		if (early > 0)
			sleep_ns((long long)(early * 1e6));
		if (sendto(fd, marker, strlen(marker), 0, (struct sockaddr *)&address, sizeof address) >= 0)
			sent++;
	}
	if (fd >= 0)
		close(fd);
	finish(command, "\"sent\":%ld", sent);
}

/* ---- small commands ----------------------------------------------------- */

static void run_received(struct command *command)
{
	finish(command, "\"udp\":{\"%d\":%lu,\"%d\":%lu}", udp_ports[0],
	       __atomic_load_n(&udp_received[0], __ATOMIC_RELAXED), udp_ports[1],
	       __atomic_load_n(&udp_received[1], __ATOMIC_RELAXED));
}

static void run_ready(struct command *command)
{
	finish(command, "\"ready\":true,\"name\":\"%.*s\"", (int)banner_length - 1, banner);
}

static const struct verb {
	const char *name;
	int words; /* with the verb and the ID */
	void (*run)(struct command *);
} verbs[] = {
	{"probe", 6, run_probe}, {"forge", 6, run_forge}, {"knock", 8, run_knock},       {"flood", 8, run_flood},
	{"ready", 2, run_ready}, {"received", 2, run_received},
};

static void *run_command(void *argument)
{
	struct command *command = argument;
	size_t i;

	for (i = 0; i < COUNT(verbs); i++) {
		if (strcmp(verbs[i].name, command->word[0]))
			continue;
		if (command->words == verbs[i].words)
			verbs[i].run(command);
		else
			fail(command, "wrong number of arguments");
		break;
	}
	if (i == COUNT(verbs))
		fail(command, "unknown command");
	free(command);
	return NULL;
}

static void accept_line(const char *line)
{
	struct command *command = calloc(1, sizeof *command);
	char *rest = NULL, *word;

	if (!command)
		return;
	snprintf(command->line, sizeof command->line, "%s", line);
	for (word = strtok_r(command->line, " \t\r", &rest); word && command->words < WORDS_MAX;
	     word = strtok_r(NULL, " \t\r", &rest))
		command->word[command->words++] = word;
	if (command->words >= 2 && valid_id(command->word[1])) {
		command->slot = take_slot(command->word[1]);
		if (command->slot) {
			if (!start_thread(run_command, command))
				return; /* the thread frees it */
			fail(command, "no thread");
		}
	} else if (command->words) {
		refuse("?", "not a command: VERB ID ARGUMENT...");
	}
	free(command);
}

static _Noreturn void serve_control(void)
{
	char line[LINE_MAX_BYTES], input[256];
	size_t length = 0;
	bool too_long = false;

	for (;;) {
		ssize_t n = read(control, input, sizeof input), i;

		if (n <= 0) {
			sleep_ns(TICK_NANOSECONDS);
			continue;
		}
		for (i = 0; i < n; i++) {
			if (input[i] != '\n') {
				if (length + 1 < sizeof line)
					line[length++] = input[i];
				else
					too_long = true;
				continue;
			}
			line[length] = 0;
			if (too_long)
				refuse("?", "line too long");
			else
				accept_line(line);
			length = 0;
			too_long = false;
		}
	}
}

/* ---- services ----------------------------------------------------------- */

static int listen_on(int type, int port)
{
	/* Of both versions of IP: an IPv4 client comes as ::ffff:a.b.c.d. */
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) ||
	    (type == SOCK_STREAM && listen(fd, 256))) {
		printf("SERAI-FAILED port %d: %s\n", port, strerror(errno));
		exit(1);
	}
	return fd;
}

static _Noreturn void *serve_banner(void *listener)
{
	for (;;) {
		int fd = accept4((int)(intptr_t)listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		send(fd, banner, banner_length, MSG_NOSIGNAL);
		close(fd);
	}
}

static void *echo_connection(void *connection)
{
	int fd = (int)(intptr_t)connection;
	char data[16384];
	ssize_t n;

	while ((n = recv(fd, data, sizeof data, 0)) > 0) {
		ssize_t sent = 0, m = 0;

		while (sent < n && (m = send(fd, data + sent, (size_t)(n - sent), MSG_NOSIGNAL)) > 0)
			sent += m;
		if (m <= 0)
			break;
	}
	close(fd);
	return NULL;
}

static void *tick_connection(void *connection)
{
	int fd = (int)(intptr_t)connection, length;
	char line[32];
	unsigned long tick;

	for (tick = 1;; tick++) {
		length = snprintf(line, sizeof line, "tick %lu\n", tick);
		if (send(fd, line, (size_t)length, MSG_NOSIGNAL) != length)
			break;
		sleep_ns(TICK_NANOSECONDS);
	}
	close(fd);
	return NULL;
}

struct service {
	int fd;
	void *(*connection)(void *);
};

static _Noreturn void *serve_connections(void *argument)
{
	struct service *service = argument;

	for (;;) {
		int fd = accept4(service->fd, NULL, NULL, SOCK_CLOEXEC), on = 1;

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		if (start_thread(service->connection, (void *)(intptr_t)fd))
			close(fd);
	}
}

struct counter {
	int fd;
	unsigned long *received;
};

static _Noreturn void *serve_datagrams(void *argument)
{
	struct counter *counter = argument;
	struct sockaddr_in6 peer;
	char data[2048];

	for (;;) {
		socklen_t size = sizeof peer;

		if (recvfrom(counter->fd, data, sizeof data, 0, (struct sockaddr *)&peer, &size) < 0)
			continue;
		__atomic_add_fetch(counter->received, 1, __ATOMIC_RELAXED);
		sendto(counter->fd, banner, banner_length, MSG_DONTWAIT, (struct sockaddr *)&peer, size);
	}
}

static void start_services(void)
{
	static struct service echo, ticks;
	static struct counter counters[COUNT(udp_ports)];
	int failed = 0;
	size_t i;

	for (i = 0; i < COUNT(banner_ports); i++)
		failed |= start_thread(serve_banner, (void *)(intptr_t)listen_on(SOCK_STREAM, banner_ports[i]));
	for (i = 0; i < COUNT(udp_ports); i++) {
		counters[i] = (struct counter){listen_on(SOCK_DGRAM, udp_ports[i]), &udp_received[i]};
		failed |= start_thread(serve_datagrams, &counters[i]);
	}
	echo = (struct service){listen_on(SOCK_STREAM, ECHO_PORT), echo_connection};
	ticks = (struct service){listen_on(SOCK_STREAM, TICK_PORT), tick_connection};
	failed |= start_thread(serve_connections, &echo) | start_thread(serve_connections, &ticks);
	if (failed) {
		printf("SERAI-FAILED cannot start the service threads\n");
		exit(1);
	}
}

static void open_control(void)
{
	struct termios settings;

	control = open(CONTROL_DEVICE, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (control < 0 || tcgetattr(control, &settings)) {
		printf("SERAI-FAILED %s: %s\n", CONTROL_DEVICE, strerror(errno));
		exit(1);
	}
	cfmakeraw(&settings);
	settings.c_cflag |= CLOCAL;
	cfsetspeed(&settings, B115200);
	tcsetattr(control, TCSANOW, &settings);
	tcflush(control, TCIFLUSH);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	gethostname(banner, sizeof banner - 2);
	clean(banner);
	banner_length = strlen(banner);
	banner[banner_length++] = '\n';
	start_services();
	open_control();
	printf("SERAI-READY %.*s\n", (int)banner_length - 1, banner);
	serve_control();
}
