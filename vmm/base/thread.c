/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/thread.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>

#define STACK_BYTES (128 * KIB)

int thread_start(pthread_t *ret_thread, int signal, void *(*fn)(void *),
		 void *arg)
{
	pthread_attr_t attr;
	sigset_t blocked, before;
	int r;

	sigfillset(&blocked);
	if (signal)
		sigdelset(&blocked, signal);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* The thread begins with the caller's mask: no signal slips in. */
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	r = pthread_create(ret_thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

void thread_await(sem_t *sem)
{
	while (sem_wait(sem) < 0 && errno == EINTR)
		;
}
