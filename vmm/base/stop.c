/* SPDX-License-Identifier: Apache-2.0 */
/* The first reason to end wins and wakes the main loop. */
#include "vmm/base/stop.h"

#include "vmm/base/loop.h"

void stop_init(struct stop *stop, struct loop *loop)
{
	*stop = (struct stop){.loop = loop};
	pthread_mutex_init(&stop->lock, NULL);
}

void stop_request(struct stop *stop, enum stop_reason reason, int status)
{
	pthread_mutex_lock(&stop->lock);
	if (stop->reason == STOP_NONE) {
		stop->reason = reason;
		stop->status = status;
		if (stop->loop)
			loop_stop(stop->loop);
	}
	pthread_mutex_unlock(&stop->lock);
}

enum stop_reason stop_reason(struct stop *stop, int *ret_status)
{
	enum stop_reason reason;

	pthread_mutex_lock(&stop->lock);
	reason = stop->reason;
	if (reason != STOP_NONE && ret_status)
		*ret_status = stop->status;
	pthread_mutex_unlock(&stop->lock);
	return reason;
}
