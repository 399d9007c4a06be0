/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running machine takes requests of other programs at a Unix socket that its
 * user alone can connect to: it is paused, goes on, is saved. A connection is
 * one request and its answer; who saves opens the files and hands them over, as
 * the monitor's sandbox opens none.
 */
#ifndef TOOLS_CONTAINER_VM_SOCKET_H
#define TOOLS_CONTAINER_VM_SOCKET_H

#include "vmm/base/listener.h"
#include "vmm/base/loop.h"
#include "vmm/vm.h"

#include <pthread.h>
#include <stdbool.h>

enum vm_request {
	VM_REQUEST_PAUSE = 1,
	VM_REQUEST_RESUME,
	VM_REQUEST_SAVE,
	VM_REQUEST_END_RECORD, /* vm_end_record() */
	VM_REQUEST_SHOW,       /* vm_show() */
	VM_REQUEST_SAVE_TO,    /* vm_save_to(); see there */
};

/* ---- the monitor's side */

struct vm_socket {
	struct listener listener; /* fd -1: none */
	int stop_fd;              /* owned: an eventfd */
	struct vm *vm;            /* borrowed */
	struct loop_source first; /* of the main loop: nobody has asked yet */
	pthread_t thread;
	bool has_thread;
};

#define VM_SOCKET_NONE                                                         \
	((struct vm_socket){.listener = {.fd = -1}, .stop_fd = -1})

/* Its thread makes these calls, for vm_allow(). */
extern const struct sandbox_rule vm_socket_syscalls[];

/*
 * Makes the socket PATH, instead of one that nobody listens to any more. 0 or
 * -errno, logged; vm_socket_done() accepts what a failed one left.
 */
int vm_socket_open(struct vm_socket *s, const char *path);
/* The same later, with a socket that listens already; *FD is -1 then. */
int vm_socket_open_later(struct vm_socket *s);
int vm_socket_adopt(struct vm_socket *s, const char *path, int *fd);
/*
 * Does to VM, which runs, what it is asked for, from vm_run() on: by a thread
 * that starts when somebody asks for the first time. After vm_start(), so that
 * the sandbox is around it. 0 or -errno, logged.
 */
int vm_socket_start(struct vm_socket *s, struct vm *vm);
/* Ends the thread and removes the socket. Before vm_free(). */
void vm_socket_done(struct vm_socket *s);

/* ---- the other program's */

struct vm_answer {
	int32_t result;        /* 0, or -errno of vm_pause() and so on */
	struct vm_saved saved; /* of VM_REQUEST_SAVE */
};

/*
 * Asks the machine at the socket PATH, and waits for its answer, up to
 * TIMEOUT_MS (0: as long as it takes): -ETIME then, logged. ID and the two
 * files, borrowed, are for VM_REQUEST_SAVE, which ends where this does. 0, and
 * an answer; or -errno of the connection, logged: -EINTR, a signal that has a
 * handler came.
 */
int vm_socket_ask(const char *path, enum vm_request what, const uint8_t id[16],
		  const int files[2], int timeout_ms, struct vm_answer *ret);
/* The same. -ECONNRESET, not logged: GONE_FD has become readable before. */
int vm_socket_ask_unless(const char *path, enum vm_request what,
			 const uint8_t id[16], const int files[2], int gone_fd,
			 int timeout_ms, struct vm_answer *ret);
/*
 * VM_REQUEST_SAVE_TO: as above, as long as it takes. GOES_ON, if it is one, is
 * called with ARG when the guest goes on, before its memory is written; not
 * where that fails.
 */
struct vm_socket_target {
	const uint8_t *id;      /* of 16 bytes */
	const uint8_t *base_id; /* of 16 bytes, or NULL */
	const int *files;       /* two */
	int track_fd;           /* the second one, for reading; or -1 */
	void (*goes_on)(void *arg);
	void *arg;
};
int vm_socket_save(const char *path, const struct vm_socket_target *to,
		   struct vm_answer *ret);

#endif
