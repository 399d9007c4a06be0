/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's side of the guest's console: standard input and output, raw mode
 * while the guest runs, the escape key, the window's size. Restores the
 * terminal on every way out, a fatal signal included.
 *
 * Knows no device. Standard input and output are usually shared with the shell:
 * their O_NONBLOCK is never touched, and nothing here waits for them.
 */
#ifndef DEVICES_HOST_TERMINAL_H
#define DEVICES_HOST_TERMINAL_H

#include "vmm/base/loop.h"
#include "vmm/base/sandbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

struct stop;
struct trace;

/* The system calls that a running terminal makes (vmm/base/sandbox.h). */
extern const struct sandbox_rule terminal_syscalls[];

#define TERMINAL_INPUT_MAX   1024
#define TERMINAL_PENDING_MAX 16384

/* One end of the user's side: how its descriptor is used without waiting. */
struct terminal_end {
	int fd;
	enum {
		TERMINAL_NONE,    /* a closed descriptor */
		TERMINAL_PRIVATE, /* a description of its own, O_NONBLOCK */
		TERMINAL_FILE,    /* never waits for long */
		TERMINAL_SHARED,  /* only what poll() says will not wait */
	} kind;
	bool owned, is_tty;
	uint16_t most; /* bytes that TERMINAL_SHARED takes at a time */
};

/*
 * Makes END of FD, which has to stay open; that its flags, shared with others,
 * are not touched has its price: see `kind`. A closed FD gives TERMINAL_NONE,
 * with fd -1. terminal_end_close() closes what was opened here, and not FD.
 */
void terminal_end_open(struct terminal_end *end, int fd, bool writes);
void terminal_end_close(struct terminal_end *end);
/* As write(2), but never waits: EAGAIN. poll() END->fd for POLLOUT then. */
ssize_t terminal_end_write(const struct terminal_end *end, const void *buf,
			   size_t len);

/* A device that writes; it learns when more fits after a short write. */
struct terminal_writer {
	void *owner;
	void (*room_fn)(void *owner); /* loop thread, no lock held */
	struct terminal_writer *next;
};

struct terminal {
	struct loop *loop; /* borrowed */
	struct stop *stop; /* borrowed */
	/* Borrowed, the owner's to set; NULL: none. */
	struct trace *trace;
	struct terminal_end in, out;
	struct loop_source input;
	struct loop_source output; /* EPOLLOUT while output is pending */
	struct loop_source wake;   /* the owner has room again; fd owned */
	struct loop_timer settle;  /* set while input is held */

	/* Input: the loop's thread only, but for input_waits. */
	bool is_tty; /* of the input */
	bool escaped, input_eof, eof_told, unpollable;
	bool input_waits; /* for room; atomic */
	uint8_t input_data[TERMINAL_INPUT_MAX];
	size_t ninput; /* read, and not yet taken by the owner */

	/*
	 * The device that gets the input and learns of a new size; NULL: none.
	 */
	void *owner;
	size_t (*input_room)(void *owner); /* bytes it can take now */
	/* The number of bytes taken; the rest is offered again. */
	size_t (*input_fn)(void *owner, const uint8_t *data, size_t bytes);
	void (*eof_fn)(void *owner); /* may be NULL */
	void (*resize_fn)(void *owner);

	struct terminal_writer *writers; /* borrowed */
	pthread_mutex_t lock;            /* for what follows */
	uint8_t *pending;                /* output not yet written; bounded */
	size_t npending;
	bool refused;     /* a writer waits for room_fn */
	bool output_dead; /* nobody reads it any more */

	bool held, wrote; /* input: see terminal_hold_input(); output since */
	unsigned ticks, quiet; /* of `settle`: since then; since either */

	bool raw;
	struct termios saved;
};

/*
 * On standard input and output. In raw mode Ctrl-A is the escape key: Ctrl-A x
 * ends the VM, Ctrl-A Ctrl-A (or Ctrl-A a) sends one Ctrl-A, Ctrl-A h shows
 * this. 0 or -errno (logged).
 */
int terminal_init(struct terminal *t, struct loop *loop, struct stop *stop);
/* The same on other descriptors (borrowed), which may be closed ones. */
int terminal_init_fds(struct terminal *t, struct loop *loop, struct stop *stop,
		      int in_fd, int out_fd);
/*
 * Main thread, when neither the loop nor a vCPU runs any more: writes what is
 * pending (for a short time at most) and restores the terminal. Later output
 * vanishes. Accepts a zeroed terminal and may be called twice.
 */
void terminal_done(struct terminal *t);
/*
 * Restores the process's terminal, if there is one, for a thread that is about
 * to end the process at once. Any thread, any lock held; also from a signal's
 * handler.
 */
void terminal_rescue(void);

/* Raw mode (if a terminal) and reading begin. Main thread. 0 or -errno. */
int terminal_start(struct terminal *t);

/* Before the loop runs, or after. */
void terminal_add_writer(struct terminal *t, struct terminal_writer *writer);
void terminal_remove_writer(struct terminal *t, struct terminal_writer *writer);

/* The owner has room for input again. Any thread, any lock held. */
void terminal_resume_input(struct terminal *t);

/*
 * The owner's driver starts: it gets no input until it has sent output and then
 * nothing for a moment, or for a second nothing at all (at most 5 s; longer on
 * a host that has too much else to do). Any thread, any lock held.
 */
void terminal_hold_input(struct terminal *t);

/*
 * Writes output: returns how many bytes were taken; the rest has to wait for
 * the writers' room_fn. Never blocks. When nobody can read the output any more
 * (a closed pipe, logged once) all of it is taken and vanishes. Any thread.
 */
size_t terminal_write(struct terminal *t, const void *data, size_t bytes);

/* SIGWINCH came. Loop thread. */
void terminal_resized(struct terminal *t);

/* Whether there is, or may be, a size to tell. */
bool terminal_has_size(const struct terminal *t);
/* Columns and rows; 0, 0 when not a terminal. Any thread. */
void terminal_size(const struct terminal *t, uint16_t *ret_columns,
		   uint16_t *ret_rows);

#endif
