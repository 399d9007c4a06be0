/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: each with a small stack, and without the process's signals. */
#ifndef VMM_BASE_THREAD_H
#define VMM_BASE_THREAD_H

#include <pthread.h>
#include <semaphore.h>

/*
 * Starts FN(ARG) on a thread of its own, whose handle is in *RET_THREAD; the
 * caller joins it. Its stack has 128 KiB: in the usual 8 MiB the first touch
 * may get a page of 2 MiB. All signals but SIGNAL (0: all) are blocked there,
 * as they are the main thread's. 0 or -errno (not logged). Any thread.
 */
int thread_start(pthread_t *ret_thread, int signal, void *(*fn)(void *),
		 void *arg);

/* Waits until another thread has posted SEM. */
void thread_await(sem_t *sem);

#endif
