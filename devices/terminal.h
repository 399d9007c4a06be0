/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's side of the guest's console: standard input and output, raw mode
 * while the guest runs, the escape key, the window's size. Restores the
 * terminal on every way out, a fatal signal included.
 */
#ifndef DEVICES_TERMINAL_H
#define DEVICES_TERMINAL_H

#include "vmm/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stop;

struct terminal {
	struct loop *loop; /* borrowed */
	struct stop *stop; /* borrowed */
	struct loop_source input;
	struct loop_source output; /* EPOLLOUT while output is pending */
	bool is_tty, raw, escaped, input_eof;
	/* Who gets the input, and learns of a new size; NULL: nobody. */
	void *owner;
	size_t (*input_room)(void *owner); /* bytes it can take now */
	void (*input_fn)(void *owner, const uint8_t *data, size_t bytes);
	void (*eof_fn)(void *owner);
	void (*output_fn)(void *owner); /* output drained: more fits */
	void (*resize_fn)(void *owner);
	uint8_t *pending; /* output not yet written; bounded */
	size_t npending;
};

/*
 * In raw mode Ctrl-A is the escape key: Ctrl-A x ends the VM, Ctrl-A Ctrl-A
 * (or Ctrl-A a) sends one Ctrl-A, Ctrl-A h shows this. 0 or -errno (logged).
 */
int terminal_init(struct terminal *t, struct loop *loop, struct stop *stop);
void terminal_done(struct terminal *t);

/* Raw mode (if a terminal) and reading begin. Main thread. 0 or -errno. */
int terminal_start(struct terminal *t);

/*
 * The owner has room for input again. Loop thread.
 */
void terminal_resume_input(struct terminal *t);

/*
 * Writes output: returns how many bytes were taken; the rest has to wait for
 * output_fn. Never blocks. Any thread.
 */
size_t terminal_write(struct terminal *t, const void *data, size_t bytes);

/* Columns and rows; 0, 0 when not a terminal. */
void terminal_size(const struct terminal *t, uint16_t *ret_columns,
		   uint16_t *ret_rows);

#endif
