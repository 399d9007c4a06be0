/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vCPU's thread: pausing and going on. The guest is a few instructions of
 * real mode under this host's KVM, which count in memory, and take numbers from
 * a device and give them back, without a rest.
 */
#include "vmm/cpu/vcpu.h"

#include "tests/patience.h"
#include "vmm/base/bus.h"
#include "vmm/base/kvm.h"
#include "vmm/base/mem.h"
#include "vmm/base/stop.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"
#include "vmm/cpu/irqchip.h"
#include "vmm/pvm/assist.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define CPUS         2
#define CODE         0x1000
#define COUNTS       0x2000
#define SERIES       0x3000
#define SERIES_BYTES 64
#define PORT         0x400   /* and 0x100 further for each vCPU */
#define MMIO         0xd0000 /* and 0x1000 further */
#define ROUNDS       400

/*
 * BX: a word to count in, BP: the device's port, FS: its registers in memory,
 * SI: room for a series. INS is one instruction and many accesses.
 */
extern const uint8_t guest_start[], guest_in[], guest_after_in[];
extern const uint8_t guest_crash[], guest_end[];
__asm__(".pushsection .text\n"
	".code16\n"
	"guest_start:\n\t"
	"incl (%bx)\n\t"
	"movw %bp, %dx\n"
	"guest_in:\n\t"
	"inl %dx, %eax\n"
	"guest_after_in:\n\t"
	"addw $4, %dx\n\t"
	"outl %eax, %dx\n\t"
	"movl %fs:0, %eax\n\t"
	"movl %eax, %fs:4\n\t"
	"movw %si, %di\n\t"
	"movw $64, %cx\n\t"
	"addw $4, %dx\n\t"
	"cld\n\t"
	"rep insb\n\t"
	"movl 60(%si), %eax\n\t"
	"addw $4, %dx\n\t"
	"outl %eax, %dx\n\t"
	"jmp guest_start\n"
	"guest_crash:\n\t"
	"ud2\n"
	"guest_end:\n"
	".code64\n"
	".popsection\n");

/*
 * Gives numbers, each of which has to come back before the next is taken, and
 * bytes, SERIES_BYTES in a row. An access that is lost, or done twice, is an
 * error.
 */
struct device {
	uint32_t given, back, errors;
	uint32_t last; /* four bytes of the series */
	unsigned bytes;
};

static void give_number(struct device *d, void *buf)
{
	d->errors += d->back != d->given;
	d->given++;
	memcpy(buf, &d->given, sizeof(d->given));
}

static void take_number(struct device *d, const void *buf)
{
	uint32_t number;

	memcpy(&number, buf, sizeof(number));
	d->errors += number != d->given || d->back == d->given;
	d->back = number;
}

static void device_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct device *d = dev;

	if (off == 0 && len == 4) {
		give_number(d, buf);
	} else if (off == 8 && len == 1) {
		const uint8_t byte = (uint8_t)(d->last >> 24) + 1;

		d->last = d->last >> 8 | (uint32_t)byte << 24;
		d->bytes++;
		memcpy(buf, &byte, 1);
	} else {
		d->errors++;
	}
}

static void device_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	struct device *d = dev;

	if (off == 4 && len == 4) {
		take_number(d, buf);
	} else if (off == 12 && len == 4) {
		d->errors += d->bytes != SERIES_BYTES ||
			     memcmp(buf, &d->last, sizeof(d->last)) != 0;
		d->bytes = 0;
	} else {
		d->errors++;
	}
}

static const struct bus_ops device_ops = {
	.name = "device",
	.read = device_read,
	.write = device_write,
};

struct machine_under_test {
	struct kvm kvm;
	struct mem mem;
	struct bus bus;
	struct stop stop;
	struct vcpu vcpu[CPUS];
	unsigned nvcpus; /* made */
	struct device port[CPUS], mmio[CPUS];
	bool usable;
};

static void real_mode(struct vcpu *vcpu, uint64_t fs)
{
	struct kvm_sregs s;

	assert_int_equal(ioctl(vcpu->fd, KVM_GET_SREGS, &s), 0);
	s.cs.base = s.cs.selector = 0;
	s.ds.base = s.es.base = s.ss.base = 0;
	s.ds.selector = s.es.selector = s.ss.selector = 0;
	s.fs.base = fs;
	s.fs.selector = (uint16_t)(fs >> 4);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_SREGS, &s), 0);
}

static void make_vcpu(struct machine_under_test *m, unsigned i)
{
	struct kvm_mp_state runs = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct vcpu *vcpu = &m->vcpu[i];
	const struct kvm_regs regs = {
		.rip = CODE,
		.rflags = 2,
		.rbx = COUNTS + 4 * i,
		.rbp = PORT + 0x100 * i,
		.rsi = SERIES + 0x100 * i,
		.rsp = 0x8000 + 0x100 * i,
	};

	vcpu->bus = &m->bus;
	vcpu->mem = &m->mem;
	vcpu->stop = &m->stop;
	m->nvcpus++;
	assert_int_equal(vcpu_init(vcpu, &m->kvm, i, CPUS), 0);
	real_mode(vcpu, MMIO + 0x1000 * i);
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_REGS, &regs), 0);
	/* Nobody sends it the start-up IPI that it waits for. */
	assert_int_equal(ioctl(vcpu->fd, KVM_SET_MP_STATE, &runs), 0);
	assert_int_equal(bus_add(&m->bus, BUS_PORT, PORT + 0x100 * i, 16,
				 &device_ops, &m->port[i]),
			 0);
	assert_int_equal(bus_add(&m->bus, BUS_MMIO, MMIO + 0x1000 * i, 16,
				 &device_ops, &m->mmio[i]),
			 0);
}

/* False: this host has no KVM. */
static bool make(struct machine_under_test *m)
{
	const struct mem_options none = {0};

	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < CPUS; i++)
		m->vcpu[i].fd = -1;
	kvm_init(&m->kvm);
	stop_init(&m->stop, NULL);
	if (access("/dev/kvm", R_OK | W_OK) < 0 || kvm_open(&m->kvm) < 0 ||
	    kvm_create_vm(&m->kvm) < 0)
		return false;
	assert_int_equal(mem_init(&m->mem, 32 * MIB, &none), 0);
	/* Up to the registers in memory. */
	assert_int_equal(
		kvm_add_memory(&m->kvm, 0, m->mem.region[0].host, MMIO, false),
		0);
	assert_int_equal(irqchip_create(&m->kvm), 0);
	assert_int_equal(mem_write(&m->mem, CODE, guest_start,
				   (size_t)(guest_end - guest_start)),
			 0);
	for (unsigned i = 0; i < CPUS; i++)
		make_vcpu(m, i);
	bus_freeze(&m->bus);
	m->usable = true;
	return true;
}

static int setup(void **state)
{
	static struct machine_under_test m;

	*state = &m;
	(void)make(&m);
	return 0;
}

static void unmake(struct machine_under_test *m)
{
	for (unsigned i = 0; i < m->nvcpus; i++) {
		vcpu_stop_thread(&m->vcpu[i]);
		vcpu_done(&m->vcpu[i]);
	}
	mem_done(&m->mem);
	kvm_done(&m->kvm);
}

static int teardown(void **state)
{
	unmake(*state);
	return 0;
}

static struct machine_under_test *usable(void **state)
{
	struct machine_under_test *m = *state;

	if (!m->usable) {
		print_message("no /dev/kvm: skipped\n");
		skip();
	}
	return m;
}

static void start(struct machine_under_test *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(vcpu_start_thread(&m->vcpu[i]), 0);
}

static void pause_all(struct machine_under_test *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_pause(&m->vcpu[i]);
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(vcpu_wait_paused(&m->vcpu[i]), 0);
}

static void resume_all(struct machine_under_test *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_resume(&m->vcpu[i]);
}

static uint32_t counted(const struct machine_under_test *m, unsigned i)
{
	const uint32_t *count = mem_at(&m->mem, COUNTS + 4 * i, 4);

	return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

static void wait_for_progress(const struct machine_under_test *m)
{
	for (unsigned i = 0; i < CPUS; i++) {
		const uint32_t before = counted(m, i);

		assert_true(wait_until(counted(m, i) != before));
	}
}

/*
 * A number that the device gave is in the guest's register, and the instruction
 * that took it is over: nothing is left for KVM to finish.
 */
static void expect_settled(const struct machine_under_test *m, unsigned i)
{
	const struct device *d = &m->port[i];
	struct kvm_regs regs;
	uint64_t at;

	assert_int_equal(ioctl(m->vcpu[i].fd, KVM_GET_REGS, &regs), 0);
	at = regs.rip - CODE;
	if (at <= (uint64_t)(guest_in - guest_start)) {
		assert_int_equal(d->given, d->back);
	} else if (at == (uint64_t)(guest_after_in - guest_start)) {
		assert_int_equal(d->given, d->back + 1);
		assert_int_equal((uint32_t)regs.rax, d->given);
	}
}

static void expect_no_errors(const struct machine_under_test *m)
{
	for (unsigned i = 0; i < CPUS; i++) {
		assert_int_equal(m->port[i].errors, 0);
		assert_int_equal(m->mmio[i].errors, 0);
	}
}

static void test_nothing_happens(void **state)
{
	struct machine_under_test *m = usable(state);
	struct kvm_regs before[CPUS], after;
	uint32_t count[CPUS];

	start(m);
	wait_for_progress(m);
	pause_all(m);
	for (unsigned i = 0; i < CPUS; i++) {
		count[i] = counted(m, i);
		assert_int_equal(ioctl(m->vcpu[i].fd, KVM_GET_REGS, &before[i]),
				 0);
	}
	patience_sleep_ms(QUIET_MS);
	for (unsigned i = 0; i < CPUS; i++) {
		assert_int_equal(counted(m, i), count[i]);
		assert_int_equal(ioctl(m->vcpu[i].fd, KVM_GET_REGS, &after), 0);
		assert_memory_equal(&after, &before[i], sizeof(after));
		assert_int_equal(m->vcpu[i].run->immediate_exit, 1);
	}
	resume_all(m);
	wait_for_progress(m);
	expect_no_errors(m);
}

static void test_many_times(void **state)
{
	struct machine_under_test *m = usable(state);

	start(m);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pause_all(m);
		for (unsigned i = 0; i < CPUS; i++)
			expect_settled(m, i);
		resume_all(m);
		/*
		 * Otherwise every pause would find a thread that has just
		 * begun.
		 */
		if (round % 4 == 0)
			wait_for_progress(m);
	}
	wait_for_progress(m);
	expect_no_errors(m);
}

/*
 * The vCPU is asked to pause, let go before the wait for it, and asked again.
 */
static void test_at_once(void **state)
{
	struct machine_under_test *m = usable(state);

	start(m);
	for (unsigned round = 0; round < ROUNDS; round++) {
		vcpu_pause(&m->vcpu[0]);
		vcpu_resume(&m->vcpu[0]);
		vcpu_pause(&m->vcpu[0]);
		assert_int_equal(vcpu_wait_paused(&m->vcpu[0]), 0);
		vcpu_resume(&m->vcpu[0]);
	}
	/* A vCPU that was not asked to pause cannot go on. */
	vcpu_resume(&m->vcpu[1]);
	wait_for_progress(m);
	expect_no_errors(m);
}

static void test_ends_while_paused(void **state)
{
	struct machine_under_test *m = usable(state);

	start(m);
	wait_for_progress(m);
	pause_all(m);
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_stop_thread(&m->vcpu[i]);
	assert_int_equal(vcpu_wait_paused(&m->vcpu[0]), -ESHUTDOWN);
	vcpu_resume(&m->vcpu[0]);
	expect_no_errors(m);
}

static void visit_all(struct machine_under_test *m, struct visitor *v,
		      uint64_t passed_ns)
{
	irqchip_visit(&m->kvm, v);
	vcpu_visit(m->vcpu, CPUS, &m->kvm, passed_ns, v);
	irqchip_visit_clock(&m->kvm, passed_ns, v);
	assert_int_equal(visit_end(v), 0);
}

/* TO goes on where FROM stands, which is paused, PASSED_NS later. */
static void move(struct machine_under_test *from, struct machine_under_test *to,
		 uint64_t passed_ns)
{
	struct visitor save, load;

	assert_true(make(to));
	visit_save(&save);
	visit_all(from, &save, 0);
	visit_load(&load, save.saved, save.bytes);
	visit_all(to, &load, passed_ns);
	visit_done(&load);
	visit_done(&save);
	memcpy(to->mem.region[0].host, from->mem.region[0].host, MMIO);
	memcpy(to->port, from->port, sizeof(to->port));
	memcpy(to->mmio, from->mmio, sizeof(to->mmio));
}

static uint64_t tsc(const struct vcpu *vcpu)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head.nmsrs = 1, .entry.index = 0x10};

	assert_int_equal(ioctl(vcpu->fd, KVM_GET_MSRS, &one), 1);
	return one.entry.data;
}

/* Again and again in another VM: no number is lost or comes twice. */
static void test_moved(void **state)
{
	static struct machine_under_test other[2];
	struct machine_under_test *m = usable(state);

	for (unsigned round = 0; round < 20; round++) {
		struct machine_under_test *to = &other[round % 2];
		uint64_t before;

		start(m);
		wait_for_progress(m);
		pause_all(m);
		before = tsc(&m->vcpu[0]);
		move(m, to, 0);
		for (unsigned i = 0; i < CPUS; i++) {
			assert_int_equal(counted(to, i), counted(m, i));
			expect_settled(to, i);
			/* Within seconds: the other one's began at 0. */
			assert_true(tsc(&to->vcpu[i]) >= before);
		}
		if (round > 0)
			unmake(m);
		m = to;
	}
	start(m);
	wait_for_progress(m);
	pause_all(m);
	expect_no_errors(m);
	unmake(m);
}

static uint64_t kvm_clock(const struct machine_under_test *m)
{
	struct kvm_clock_data clock = {0};

	assert_int_equal(ioctl(m->kvm.vm_fd, KVM_GET_CLOCK, &clock), 0);
	return clock.clock;
}

/* Both of a guest's clocks go on an hour later, on a slow host some minutes. */
static void test_catches_up(void **state)
{
	static struct machine_under_test other;
	const uint64_t hour_ns = UINT64_C(3600000000000);
	struct machine_under_test *m = usable(state);
	const uint64_t khz = (uint64_t)ioctl(m->vcpu[0].fd, KVM_GET_TSC_KHZ, 0);
	uint64_t clock, ticks;

	start(m);
	wait_for_progress(m);
	pause_all(m);
	ticks = tsc(&m->vcpu[0]) + khz * 3600 * 1000;
	clock = kvm_clock(m) + hour_ns;
	move(m, &other, hour_ns);
	for (unsigned i = 0; i < CPUS; i++) {
		assert_true(tsc(&other.vcpu[i]) >= ticks);
		assert_true(tsc(&other.vcpu[i]) < ticks + khz * 600 * 1000);
	}
	assert_true(kvm_clock(&other) >= clock);
	assert_true(kvm_clock(&other) < clock + hour_ns / 6);
	start(&other);
	wait_for_progress(&other);
	pause_all(&other);
	expect_no_errors(&other);
	unmake(&other);
}

/* A state of another CPU, or of none, is refused. */
static void test_foreign(void **state)
{
	struct machine_under_test *m = usable(state);
	struct visitor save, load;
	uint8_t *vendor;

	visit_save(&save);
	vcpu_visit(m->vcpu, 1, &m->kvm, 0, &save);
	assert_int_equal(visit_end(&save), 0);
	/* The first leaf's EBX, ECX and EDX follow its three numbers. */
	vendor = memmem(save.saved, save.bytes, "cpuid", 5);
	assert_non_null(vendor);
	vendor[5 + 16] ^= 1;
	visit_load(&load, save.saved, save.bytes);
	vcpu_visit(m->vcpu, 1, &m->kvm, 0, &load);
	assert_int_equal(visit_end(&load), -EINVAL);
	visit_done(&load);
	vendor[5 + 16] ^= 1;
	for (size_t n = 0; n < save.bytes; n += 97) {
		visit_load(&load, save.saved, n);
		vcpu_visit(m->vcpu, 1, &m->kvm, 0, &load);
		assert_int_equal(visit_end(&load), -EINVAL);
		visit_done(&load);
	}
	visit_done(&save);
}

static void *pauses(void *arg)
{
	struct machine_under_test *m = arg;
	int r = 0;

	while (r == 0) {
		vcpu_pause(&m->vcpu[0]);
		r = vcpu_wait_paused(&m->vcpu[0]);
		vcpu_resume(&m->vcpu[0]);
	}
	return (void *)(intptr_t)r;
}

/* The guest crashes while another thread pauses it again and again. */
static void test_crash(void **state)
{
	const uint16_t crash = 0x0b0f; /* UD2, over the loop's first bytes */
	struct machine_under_test *m = usable(state);
	struct kvm_sregs s;
	pthread_t thread;
	void *result;
	int status;

	/* No handler, nor one for that: a triple fault. */
	assert_int_equal(ioctl(m->vcpu[0].fd, KVM_GET_SREGS, &s), 0);
	s.idt.limit = 0;
	assert_int_equal(ioctl(m->vcpu[0].fd, KVM_SET_SREGS, &s), 0);
	assert_int_equal(vcpu_start_thread(&m->vcpu[0]), 0);
	assert_int_equal(pthread_create(&thread, NULL, pauses, m), 0);
	assert_true(wait_until(counted(m, 0) > 10));
	assert_int_equal(mem_write(&m->mem, CODE, &crash, sizeof(crash)), 0);
	pthread_join(thread, &result);
	assert_int_equal((intptr_t)result, -ESHUTDOWN);
	assert_int_equal(stop_reason(&m->stop, &status), STOP_CRASH);
}

static void test_not_started(void **state)
{
	struct machine_under_test *m = usable(state);

	vcpu_pause(&m->vcpu[0]);
	assert_int_equal(vcpu_wait_paused(&m->vcpu[0]), -ESHUTDOWN);
	vcpu_resume(&m->vcpu[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_happens, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_many_times, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ends_while_paused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_moved, setup, teardown),
		cmocka_unit_test_setup_teardown(test_catches_up, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_foreign, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_started, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
