/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor whose guest has no rest: runs the VM of a JSON configuration, and
 * from another thread pauses it and lets it go on, again and again, until it
 * ends. While the guest stands still, its memory must not change and no device
 * may hold a buffer.
 *
 *	pause CONFIG.json RESULT [END_AFTER]
 *
 * RESULT gets one line, "paused N times", or what was wrong, and the exit
 *status is then 99. With END_AFTER, SIGTERM arrives during that pause.
 */
#include "vmm/vm-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STATUS_WRONG 99
/* All of the memory is looked at in one pause of so many. */
#define WHOLE 64

struct pauser {
	struct vm *vm;
	pthread_t main;
	unsigned long pauses, end_after;
	char wrong[160]; /* "": nothing */
	unsigned seed;
};

static void sleep_us(unsigned us)
{
	const struct timespec t = {.tv_nsec = (long)us * 1000};

	nanosleep(&t, NULL);
}

/* One word of each STEP, whichever: what changes a page changes many. */
static uint64_t sum_of(const void *at, uint64_t bytes, unsigned step)
{
	const uint64_t *word = at;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < bytes / sizeof(*word); i += step)
		sum = (sum << 1 | sum >> 63) + word[i];
	return sum;
}

/* The rings' and the registers' sum, or that of all memory as well. */
static uint64_t memory_sum(const struct vm *vm, bool whole)
{
	uint64_t sum = 0;

	for (unsigned i = 0; whole && i < vm->mem.nregions; i++)
		sum += sum_of(vm->mem.region[i].host, vm->mem.region[i].bytes,
			      8);
	for (unsigned i = 0; i < vm->nvirtio; i++) {
		const struct virtio_dev *d = vm->virtio[i];

		for (unsigned q = 0; q < d->ops->nqueues; q++) {
			if (d->vq[q].ready)
				sum += sum_of(d->vq[q].used,
					      8 * (uint64_t)d->vq[q].size, 1);
		}
	}
	return sum + sum_of(vm->pages, vm->nvirtio * VIRTIO_MMIO_BYTES, 1);
}

/*
 * No lock: nobody else is to touch these now, and that is what is tested. A
 * share may have requests that wait for a lock.
 */
static void look_at_devices(struct pauser *p)
{
	for (unsigned i = 0; i < p->vm->nvirtio; i++) {
		const struct virtio_dev *d = p->vm->virtio[i];

		for (unsigned q = 0; q < d->ops->nqueues; q++) {
			const struct vq *vq = &d->vq[q];

			if (vq->ready && (vq->next_used != vq->published ||
					  (vq->next_avail != vq->published &&
					   strcmp(d->ops->type.name, "fs"))))
				snprintf(p->wrong, sizeof(p->wrong),
					 "%s: queue %u: taken %u, answered %u, "
					 "published %u",
					 d->name, q, vq->next_avail,
					 vq->next_used, vq->published);
		}
	}
}

static void look(struct pauser *p)
{
	const bool whole = p->pauses % WHOLE == 0;
	uint64_t before, exits = 0, exits_after = 0;

	look_at_devices(p);
	before = memory_sum(p->vm, whole);
	for (unsigned i = 0; i < p->vm->nvcpus; i++)
		exits += p->vm->vcpu[i].exits;
	sleep_us(rand_r(&p->seed) % 500);
	for (unsigned i = 0; i < p->vm->nvcpus; i++)
		exits_after += p->vm->vcpu[i].exits;
	if (exits != exits_after)
		snprintf(p->wrong, sizeof(p->wrong), "a vCPU exits");
	if (memory_sum(p->vm, whole) != before)
		snprintf(p->wrong, sizeof(p->wrong), "memory changes (%s)",
			 whole ? "all of it" : "rings");
	if (vm_pause(p->vm) != -EALREADY)
		snprintf(p->wrong, sizeof(p->wrong), "paused twice");
}

static void *pauses(void *arg)
{
	struct pauser *p = arg;

	while (p->vm->life == VM_BUILT)
		sleep_us(100);
	while (vm_pause(p->vm) == 0) {
		p->pauses++;
		look(p);
		if (p->pauses == p->end_after) {
			pthread_kill(p->main, SIGTERM);
			break;
		}
		/* A signal may have ended the VM in between. */
		if (vm_resume(p->vm) < 0)
			break;
		sleep_us(rand_r(&p->seed) % 4000);
	}
	return NULL;
}

static int run(struct pauser *p, const struct config *cfg)
{
	pthread_t thread;
	int status = vm_build(cfg, &p->vm);

	if (status != VM_EXIT_OK)
		return status;
	if (pthread_create(&thread, NULL, pauses, p) != 0) {
		vm_free(p->vm);
		return VM_EXIT_HOST;
	}
	status = vm_run(p->vm);
	pthread_join(thread, NULL);
	vm_free(p->vm);
	return status;
}

int main(int argc, char **argv)
{
	struct pauser p = {.seed = 1, .main = pthread_self()};
	struct config cfg;
	char line[200];
	autofd int result = -1;
	int status = VM_EXIT_USAGE;

	/* Opened now, as the sandbox allows no open() later. */
	if (argc > 2)
		result = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			      0666);
	if (result < 0) {
		fprintf(stderr,
			"usage: pause CONFIG.json RESULT [END_AFTER]\n");
		return status;
	}
	if (argc > 3)
		p.end_after = strtoul(argv[3], NULL, 10);
	config_init(&cfg);
	if (config_read_json(&cfg, argv[1], virtio_config_types()) == 0 &&
	    config_check(&cfg, virtio_config_types()) == 0)
		status = run(&p, &cfg);
	config_done(&cfg);
	if (p.wrong[0])
		status = STATUS_WRONG;
	if (p.wrong[0])
		snprintf(line, sizeof(line), "pause %lu: %s\n", p.pauses,
			 p.wrong);
	else
		snprintf(line, sizeof(line), "paused %lu times\n", p.pauses);
	return util_write_all(result, line, strlen(line)) < 0 ? VM_EXIT_HOST
							      : status;
}
