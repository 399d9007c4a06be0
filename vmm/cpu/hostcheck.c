/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at /dev/kvm, tries a VM, and checks what guests' devices need. */
#include "vmm/cpu/hostcheck.h"

#include "firmware/machine.h"
#include "vmm/pvm/assist.h"
#include "vmm/base/kvm.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/cpu/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

struct capability {
	int number;
	const char *name;
	enum hostcheck_state without;
	const char *loss, *advice;
};

#define NEWER_KERNEL "use a newer host kernel"

static const struct capability capabilities[] = {
	{KVM_CAP_USER_MEMORY, "guest memory", HOSTCHECK_BAD,
	 "no guest can have RAM", NEWER_KERNEL},
	{KVM_CAP_IRQCHIP, "in-kernel interrupt controller", HOSTCHECK_BAD,
	 "no interrupts", NEWER_KERNEL},
	{KVM_CAP_IRQFD, "irqfd", HOSTCHECK_BAD, "no device interrupts",
	 NEWER_KERNEL " (4.12 or later)"},
	{KVM_CAP_IOEVENTFD, "ioeventfd", HOSTCHECK_BAD,
	 "no device notifications", NEWER_KERNEL " (4.12 or later)"},
	{KVM_CAP_EXT_CPUID, "CPUID", HOSTCHECK_BAD,
	 "the guest's CPU cannot be described", NEWER_KERNEL},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit", HOSTCHECK_BAD,
	 "vCPUs cannot be stopped", NEWER_KERNEL " (4.12 or later)"},
	{KVM_CAP_READONLY_MEM, "read-only memory", HOSTCHECK_LOSS,
	 "each read of a device register is an exit", NEWER_KERNEL},
	{KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline timer", HOSTCHECK_LOSS,
	 "guests use a slower timer", NEWER_KERNEL},
	{KVM_CAP_EXIT_ON_EMULATION_FAILURE, "emulation failure exits",
	 HOSTCHECK_LOSS, "failed emulation cannot be made good",
	 NEWER_KERNEL " (5.14 or later)"},
	{KVM_CAP_X86_MSR_FILTER, "MSR filter", HOSTCHECK_LOSS,
	 "system calls of interpreted guests fail",
	 NEWER_KERNEL " (5.10 or later)"},
};

static void add(struct hostcheck *check, const char *topic,
		enum hostcheck_state state, const char *advice,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(struct hostcheck *check, const char *topic,
		enum hostcheck_state state, const char *advice,
		const char *format, ...)
{
	struct hostcheck_line *line = &check->line[check->nlines];
	va_list ap;

	if (check->nlines == HOSTCHECK_LINES_MAX)
		return;
	check->nlines++;
	line->topic = topic;
	line->state = state;
	line->advice = state == HOSTCHECK_OK ? NULL : advice;
	if (state == HOSTCHECK_BAD)
		check->usable = false;
	va_start(ap, format);
	vsnprintf(line->found, sizeof(line->found), format, ap);
	va_end(ap);
}

/* The first line of a file, "" when there is none. */
static void read_line(const char *path, char *buf, size_t bytes)
{
	FILE *f = fopen(path, "re");

	buf[0] = '\0';
	if (!f)
		return;
	if (fgets(buf, (int)bytes, f))
		buf[strcspn(buf, "\n")] = '\0';
	fclose(f);
}

/* KEY's value in /proc/meminfo; kB where it says so. 0: not there. */
static uint64_t meminfo(const char *key)
{
	FILE *f = fopen("/proc/meminfo", "re");
	size_t length = strlen(key);
	uint64_t value = 0;
	char line[128];

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, length) == 0 && line[length] == ':')
			value = strtoull(line + length + 1, NULL, 10);
	fclose(f);
	return value;
}

/* ---- KVM */

static bool check_open(struct hostcheck *check, struct kvm *kvm)
{
	int version;

	kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->fd < 0) {
		bool denied = errno == EACCES || errno == EPERM;

		add(check, "/dev/kvm", HOSTCHECK_BAD,
		    denied ? kvm_denied_advice()
			   : "enable virtualization in the firmware, or nested "
			     "virtualization at the cloud provider, and load "
			     "kvm_intel, kvm_amd or kvm_pvm; in a container, "
			     "pass the device in",
		    "%s", strerror(errno));
		return false;
	}
	add(check, "/dev/kvm", HOSTCHECK_OK, NULL,
	    "opened for reading and "
	    "writing");
	version = ioctl(kvm->fd, KVM_GET_API_VERSION, 0);
	add(check, "KVM API",
	    version == KVM_API_VERSION ? HOSTCHECK_OK : HOSTCHECK_BAD,
	    NEWER_KERNEL, "version %d", version);
	return version == KVM_API_VERSION;
}

static void check_capabilities(struct hostcheck *check, const struct kvm *kvm)
{
	for (unsigned i = 0; i < ARRAY_LEN(capabilities); i++) {
		const struct capability *c = &capabilities[i];

		if (kvm_check(kvm, c->number) > 0)
			add(check, c->name, HOSTCHECK_OK, NULL, "present");
		else
			add(check, c->name, c->without, c->advice,
			    "missing: %s", c->loss);
	}
}

/* A VM of one vCPU that never runs a guest: 1 interprets, 0 not, -errno. */
static int probe(struct kvm *kvm, struct mem *mem, struct vcpu *vcpu)
{
	struct vcpu_start start = {
		.mode = VCPU_LONG,
		.entry = MACHINE_SCRATCH,
		.info = MACHINE_BOOT_PARAMS,
		.gdt = MACHINE_GDT,
		.page_tables = MACHINE_PAGE_TABLES,
	};
	const struct mem_options options = {0};
	uint64_t identity_map = MACHINE_IDENTITY_MAP;
	int r = kvm_create_vm(kvm);

	if (r == 0)
		r = assist_prepare(kvm);
	if (r < 0)
		return r;
	if (ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
	    ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, MACHINE_TSS) < 0 ||
	    ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return -errno;
	r = mem_init(mem, MEM_MIN_BYTES, &options);
	if (r == 0)
		r = kvm_add_memory(kvm, mem->region[0].base,
				   mem->region[0].host, mem->region[0].bytes,
				   false);
	vcpu->mem = mem;
	if (r == 0)
		r = vcpu_init(vcpu, kvm, 0, 1);
	if (r == 0)
		r = regs_write_tables(mem, &start);
	if (r == 0)
		r = regs_set(vcpu, &start);
	return r < 0 ? r : assist_probe(vcpu, mem, MACHINE_SCRATCH);
}

static bool can_assist(const struct kvm *kvm)
{
	return kvm_check(kvm, KVM_CAP_EXIT_ON_EMULATION_FAILURE) > 0 &&
	       kvm_check(kvm, KVM_CAP_X86_MSR_FILTER) > 0 &&
	       kvm_check(kvm, KVM_CAP_X86_USER_SPACE_MSR) > 0;
}

static void check_kind(struct hostcheck *check)
{
	static const char topic[] = "guest kernels";
	struct mem mem = {0};
	struct vcpu vcpu = {.fd = -1};
	struct kvm kvm;
	int r;

	kvm_init(&kvm);
	r = kvm_open(&kvm);
	if (r == 0)
		r = probe(&kvm, &mem, &vcpu);
	if (r < 0) {
		add(check, topic, HOSTCHECK_BAD,
		    "the message above says what failed", "no VM: %s",
		    strerror(-r));
	} else if (r == 0) {
		check->kind = HOSTCHECK_HARDWARE;
		add(check, topic, HOSTCHECK_OK, NULL,
		    "run natively (hardware virtualization)");
	} else if (can_assist(&kvm)) {
		check->kind = HOSTCHECK_INTERPRETING;
		add(check, topic, HOSTCHECK_LOSS,
		    "for speed use a host with VT-x or AMD-V; docs/HOSTS says "
		    "what takes how long",
		    "are interpreted (no hardware virtualization): a system "
		    "call takes some 10 us, a fresh page over 100 us; programs "
		    "compute at the host's speed");
		add(check, "guest programs", HOSTCHECK_LOSS,
		    "docs/HOSTS has the whole list",
		    "64-bit only; hardware breakpoints never fire, CPUID is "
		    "the host's");
	} else {
		check->kind = HOSTCHECK_INTERPRETING;
		add(check, topic, HOSTCHECK_BAD,
		    "use a host kernel that has both, or a host with VT-x or "
		    "AMD-V",
		    "are interpreted by KVM, and it lacks emulation failure "
		    "exits or MSR filters");
	}
	vcpu_done(&vcpu);
	kvm_done(&kvm);
	mem_done(&mem);
}

static void check_kvm(struct hostcheck *check)
{
	struct kvm kvm;
	int max;

	kvm_init(&kvm);
	if (check_open(check, &kvm)) {
		check_capabilities(check, &kvm);
		max = kvm_check(&kvm, KVM_CAP_MAX_VCPUS);
		add(check, "vCPUs in a VM",
		    max > 0 ? HOSTCHECK_OK : HOSTCHECK_BAD, NEWER_KERNEL,
		    "up to %d", max);
	}
	kvm_done(&kvm);
	if (check->usable)
		check_kind(check);
}

/* ---- the rest of the host */

static void check_memory(struct hostcheck *check)
{
	uint64_t kib = meminfo("MemAvailable");
	uint64_t pages = meminfo("HugePages_Total");
	uint64_t page_kib = meminfo("Hugepagesize");
	char line[128];
	bool off;

	add(check, "memory", kib >= 128 * KIB ? HOSTCHECK_OK : HOSTCHECK_LOSS,
	    "free some: guests of 32M and more fit",
	    "%" PRIu64 " MiB available", kib / 1024);
	read_line("/sys/kernel/mm/transparent_hugepage/enabled", line,
		  sizeof(line));
	off = line[0] == '\0' || strstr(line, "[never]");
	add(check, "transparent huge pages",
	    off ? HOSTCHECK_LOSS : HOSTCHECK_OK,
	    "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled", "%s",
	    off ? "off: guests fault in 4 KiB pages, slowly" : line);
	if (pages)
		add(check, "reserved huge pages", HOSTCHECK_OK, NULL,
		    "%" PRIu64 " of %" PRIu64 " free, %" PRIu64 " KiB each",
		    meminfo("HugePages_Free"), pages, page_kib);
	else
		add(check, "reserved huge pages", HOSTCHECK_LOSS,
		    "sysctl vm.nr_hugepages=N",
		    "none: --hugetlb does not work");
}

static void check_tun(struct hostcheck *check)
{
	static const char topic[] = "/dev/net/tun";
	autofd int fd = open(topic, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		add(check, topic, HOSTCHECK_OK, NULL,
		    "opened for reading and writing");
	else
		add(check, topic, HOSTCHECK_LOSS,
		    errno == EACCES || errno == EPERM
			    ? "run as a user who may open it"
			    : "modprobe tun; in a container, pass the device "
			      "in",
		    "%s: --net tap= does not work", strerror(errno));
}

void hostcheck_run(struct hostcheck *ret)
{
	*ret = (struct hostcheck){.usable = true};
	check_kvm(ret);
	check_memory(ret);
	check_tun(ret);
}
