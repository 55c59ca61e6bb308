/* SPDX-License-Identifier: Apache-2.0 */
/* Traffic between two virtual machines' ends of the wire, and the CPU time that it took.
 *
 *   load tcp_bulk|udp64|rr|crr OPERATIONS CPU KSOFTIRQD  NETNS_A NETNS_B ADDRESS_B PORT
 *   load newflow               OPERATIONS CPU KSOFTIRQD  TAP_A TAP_B FRAME FIRST
 *
 * NETNS_* and TAP_* are descriptors that the caller left open; KSOFTIRQD is the number of the kernel thread that
 * serves softirqs on CPU, FRAME a UDP frame in hexadecimal, FIRST the number of the first flow.
 * Prints the nanoseconds of CPU that OPERATIONS took after a warm-up.
 *
 * Everything runs on one CPU. A veth pair and a bridge deliver in softirqs of the CPU that sends, so whatever the
 * packets of both directions cost is spent either by this process or, when softirqs pile up, by KSOFTIRQD. The sum of
 * the two is exact (the scheduler's nanoseconds, not ticks), and blind to other work on the machine. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 32             /* packets sent before they are received: fits a tap's queue of 500 */
#define CHUNK (128 * 1024)   /* bytes of a bulk write, one operation */
#define PATIENCE_MS 2000     /* how long a packet may take; they are never lost on the way */
#define LIMIT_SECONDS 60     /* no measurement takes as long */
#define SOURCE_PORT_AT 34    /* in a UDP frame without IP options */
#define SOURCE_PORTS 50000

static const char *kind, *ksoftirqd;
static long operations, warm_up;

static void die(const char *what)
{
	fprintf(stderr, "load %s: %s: %s\n", kind, what, errno ? strerror(errno) : "no answer");
	exit(1);
}

/* ---- CPU time --------------------------------------------------------------------------------------------------- */

static long long softirqd_ns(void)
{
	char path[64];
	long long spent;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%s/schedstat", ksoftirqd);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%lld", &spent) != 1)
		die(path);
	fclose(file);
	return spent;
}

/* Both threads of this process, and the kernel thread that takes over when softirqs pile up. */
static long long spent_ns(void)
{
	struct timespec own;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	return own.tv_sec * 1000000000LL + own.tv_nsec + softirqd_ns();
}

static long long began_ns;

static void begin(void)
{
	began_ns = spent_ns();
}

static void end(void)
{
	printf("%lld\n", spent_ns() - began_ns);
}

/* ---- sockets ---------------------------------------------------------------------------------------------------- */

struct ends {
	int a, b; /* namespaces */
	struct sockaddr_in address; /* of the service at b */
};

static void enter(int netns)
{
	if (setns(netns, CLONE_NEWNET))
		die("setns");
}

static int made(int type)
{
	int fd = socket(AF_INET, type, 0);

	if (fd < 0)
		die("socket");
	return fd;
}

static void set(int fd, int level, int option, int value)
{
	if (setsockopt(fd, level, option, &value, sizeof(value)))
		die("setsockopt");
}

/* The service at b; whatever this thread makes afterwards is at a. */
static int bound(const struct ends *ends, int type)
{
	int fd;

	enter(ends->b);
	fd = made(type);
	enter(ends->a);
	set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(fd, (void *)&ends->address, sizeof(ends->address)))
		die("bind");
	if (type == SOCK_STREAM && listen(fd, 128))
		die("listen");
	return fd;
}

static int connected(const struct ends *ends, int type)
{
	int fd = made(type);

	if (connect(fd, (void *)&ends->address, sizeof(ends->address)))
		die("connect");
	return fd;
}

static int accepted(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		die("accept");
	return fd;
}

static void wait_for(int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };

	errno = 0;
	if (poll(&one, 1, PATIENCE_MS) != 1)
		die("packets were lost");
}

static void say(int fd)
{
	if (write(fd, "x", 1) != 1)
		die("write");
}

static void hear(int fd)
{
	char one;

	errno = 0;
	if (read(fd, &one, 1) != 1)
		die("read");
}

/* ---- one kind of traffic each ----------------------------------------------------------------------------------- */

/* Bytes over one connection; one operation is CHUNK of them. Both ends in one thread: no scheduler has a say in how
 * much is sent before it is read. */
static void move_bytes(int a, int b, long wanted)
{
	static char bytes[CHUNK];
	long sent = 0, received = 0;

	while (received < wanted) {
		ssize_t done = 0;

		if (sent < wanted) {
			done = write(a, bytes, sent + CHUNK < wanted ? CHUNK : wanted - sent);
			if (done < 0 && errno != EAGAIN)
				die("write");
			sent += done > 0 ? done : 0;
		}
		if (done <= 0)
			wait_for(b);
		while ((done = read(b, bytes, CHUNK)) > 0)
			received += done;
		if (done == 0 || errno != EAGAIN)
			die("read");
	}
}

static void tcp_bulk(const struct ends *ends)
{
	int listener = bound(ends, SOCK_STREAM), a = connected(ends, SOCK_STREAM), b = accepted(listener);

	if (fcntl(a, F_SETFL, O_NONBLOCK) || fcntl(b, F_SETFL, O_NONBLOCK))
		die("fcntl");
	move_bytes(a, b, warm_up * CHUNK);
	begin();
	move_bytes(a, b, operations * CHUNK);
	end();
}

/* One operation is a frame of 64 bytes: 18 bytes behind Ethernet's, IP's and UDP's headers, before the check sum. */
static void move_datagrams(int a, int b, long wanted)
{
	static char payload[18], room[BATCH][64];
	struct iovec out = { payload, sizeof(payload) }, in[BATCH];
	struct mmsghdr sent[BATCH] = {}, received[BATCH] = {};

	for (int i = 0; i < BATCH; i++) {
		in[i] = (struct iovec){ room[i], sizeof(room[i]) };
		sent[i].msg_hdr = (struct msghdr){ .msg_iov = &out, .msg_iovlen = 1 };
		received[i].msg_hdr = (struct msghdr){ .msg_iov = &in[i], .msg_iovlen = 1 };
	}
	for (long done = 0; done < wanted; done += BATCH) {
		int there = 0, more;

		if (sendmmsg(a, sent, BATCH, 0) != BATCH)
			die("sendmmsg");
		while (there < BATCH) {
			more = recvmmsg(b, received, BATCH - there, MSG_DONTWAIT, NULL);
			if (more < 0 && errno != EAGAIN)
				die("recvmmsg");
			if (more <= 0)
				wait_for(b);
			there += more > 0 ? more : 0;
		}
	}
}

static void udp64(const struct ends *ends)
{
	int b = bound(ends, SOCK_DGRAM), a = connected(ends, SOCK_DGRAM);
	struct sockaddr_in sender;
	socklen_t size = sizeof(sender);
	char one;

	/* An answer first: connection trackers know two directions then. */
	say(a);
	wait_for(b);
	if (recvfrom(b, &one, 1, 0, (void *)&sender, &size) != 1)
		die("recvfrom");
	if (connect(b, (void *)&sender, size))
		die("connect");
	say(b);
	hear(a);
	move_datagrams(a, b, warm_up);
	begin();
	move_datagrams(a, b, operations);
	end();
}

/* One operation is a byte there and a byte back, between two threads that sleep until it comes. */
static void *answer(void *listener)
{
	int fd = accepted(*(int *)listener);

	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	for (long n = 0; n < warm_up + operations; n++) {
		hear(fd);
		say(fd);
	}
	return NULL;
}

static void rr(const struct ends *ends)
{
	int listener = bound(ends, SOCK_STREAM), fd;
	pthread_t server;

	if (pthread_create(&server, NULL, answer, &listener))
		die("pthread_create");
	fd = connected(ends, SOCK_STREAM);
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	for (long n = 0; n < warm_up + operations; n++) {
		if (n == warm_up)
			begin();
		say(fd);
		hear(fd);
	}
	end();
	pthread_join(server, NULL);
}

/* One operation is a connection: a byte there, a byte back, closed. */
static void *serve(void *listener)
{
	for (long n = 0; n < warm_up + operations; n++) {
		int fd = accepted(*(int *)listener);

		hear(fd);
		say(fd);
		close(fd);
	}
	return NULL;
}

static void crr(const struct ends *ends)
{
	int listener = bound(ends, SOCK_STREAM);
	pthread_t server;

	if (pthread_create(&server, NULL, serve, &listener))
		die("pthread_create");
	for (long n = 0; n < warm_up + operations; n++) {
		int fd;

		if (n == warm_up)
			begin();
		fd = connected(ends, SOCK_STREAM);
		say(fd);
		hear(fd);
		close(fd);
	}
	pthread_join(server, NULL);
	end();
}

static void put_port(unsigned char *at, unsigned int port)
{
	at[0] = port >> 8;
	at[1] = port;
}

/* One operation is a frame from one tap to the other, each of a flow that was never seen. */
static void move_flows(int a, int b, unsigned char *frame, ssize_t size, long first, long wanted)
{
	char room[2048];

	for (long done = 0; done < wanted; done += BATCH) {
		for (long flow = first + done; flow < first + done + BATCH; flow++) {
			put_port(frame + SOURCE_PORT_AT, 1024 + flow % SOURCE_PORTS);
			put_port(frame + SOURCE_PORT_AT + 2, 1024 + flow / SOURCE_PORTS);
			if (write(a, frame, size) != size)
				die("write");
		}
		for (int there = 0; there < BATCH;) {
			ssize_t got = read(b, room, sizeof(room));

			if (got < 0 && errno != EAGAIN)
				die("read");
			if (got < 0)
				wait_for(b);
			there += got == size;
		}
	}
}

static void newflow(int a, int b, const char *hexadecimal, long first)
{
	unsigned char frame[256];
	size_t size = strlen(hexadecimal) / 2;

	if (size > sizeof(frame))
		die("FRAME is too long");
	for (size_t i = 0; i < size; i++)
		sscanf(hexadecimal + 2 * i, "%2hhx", &frame[i]);
	move_flows(a, b, frame, size, first, warm_up);
	begin();
	move_flows(a, b, frame, size, first + warm_up, operations);
	end();
}

/* ------------------------------------------------------------------------------------------------------------------ */

static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		die("sched_setaffinity");
}

int main(int count, char **words)
{
	struct ends ends = { .address = { .sin_family = AF_INET } };

	kind = count > 1 ? words[1] : "";
	if (count != 9) {
		fprintf(stderr, "see the head of load.c\n");
		return 2;
	}
	operations = atol(words[2]);
	warm_up = (operations / 16 / BATCH + 1) * BATCH;
	ksoftirqd = words[4];
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(LIMIT_SECONDS);
	stay_on(atoi(words[3]));

	if (!strcmp(kind, "newflow")) {
		newflow(atoi(words[5]), atoi(words[6]), words[7], atol(words[8]));
		return 0;
	}
	ends.a = atoi(words[5]);
	ends.b = atoi(words[6]);
	inet_aton(words[7], &ends.address.sin_addr);
	ends.address.sin_port = htons(atoi(words[8]));
	if (!strcmp(kind, "tcp_bulk"))
		tcp_bulk(&ends);
	else if (!strcmp(kind, "udp64"))
		udp64(&ends);
	else if (!strcmp(kind, "rr"))
		rr(&ends);
	else if (!strcmp(kind, "crr"))
		crr(&ends);
	else
		die("no such kind");
	return 0;
}
