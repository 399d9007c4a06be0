/* SPDX-License-Identifier: Apache-2.0 */
/* Assembles the kernel command line (admin-guide/kernel-parameters). */
#include "vmm/config/cmdline.h"

#include "firmware/machine.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *buf;
	size_t bytes, used;
};

static void add(struct text *t, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Adds a word; `used` goes on counting past the end, as snprintf() does. */
static void add(struct text *t, const char *format, ...)
{
	size_t room = t->used < t->bytes ? t->bytes - t->used : 0;
	va_list ap;
	int n;

	if (t->used > 0) {
		if (room > 1)
			memcpy(t->buf + t->used, " ", 2);
		t->used++;
		room = room > 0 ? room - 1 : 0;
	}
	va_start(ap, format);
	n = vsnprintf(room ? t->buf + t->used : NULL, room, format, ap);
	va_end(ap);
	t->used += n > 0 ? (size_t)n : 0;
}

static void add_console(struct text *t, enum config_console console)
{
	switch (console) {
	case CONFIG_CONSOLE_SERIAL:
		add(t, "console=ttyS0 8250.nr_uarts=1");
		break;
	case CONFIG_CONSOLE_VIRTIO:
		add(t, "console=hvc0 8250.nr_uarts=0");
		break;
	case CONFIG_CONSOLE_AUTO:
		/*
		 * Until the virtio console is up, errors go to the serial port.
		 */
		add(t,
		    "console=hvc0 earlycon=uart8250,io,0x%x "
		    "8250.nr_uarts=0",
		    MACHINE_PORT_SERIAL);
		break;
	case CONFIG_CONSOLE_NONE:
		add(t, "console=null 8250.nr_uarts=0");
		break;
	}
}

/* True when WORD= or a bare WORD is among the user's parameters. */
static bool mentions(const char *append, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = append; p && (p = strstr(p, word)); p += len) {
		bool starts = p == append || p[-1] == ' ';

		if (starts &&
		    (p[len] == '=' || p[len] == ' ' || p[len] == '\0'))
			return true;
	}
	return false;
}

static int check_length(const struct text *t, const struct cmdline_facts *facts)
{
	const size_t most = facts->kernel_max < t->bytes - 1 ? facts->kernel_max
							     : t->bytes - 1;

	if (t->used <= most)
		return (int)t->used;
	return log_ret(-E2BIG,
		       "the kernel command line has %zu bytes, %zu of them "
		       "from --append, and '%s' takes %zu: it has to be %zu "
		       "shorter",
		       t->used, facts->append ? strlen(facts->append) : 0,
		       facts->kernel, most, t->used - most);
}

int cmdline_build(const struct machine *machine,
		  const struct cmdline_facts *facts, char *buf, size_t bytes)
{
	struct text t = {.buf = buf, .bytes = bytes};

	/*
	 * Must come first: an early console prints what is logged before this
	 * word.
	 */
	add(&t, "quiet");
	add_console(&t, facts->console);
	/*
	 * A panic ends the VM at once instead of hanging; the keyboard
	 * controller is the reset every kernel knows, and f spares the taking
	 * apart of interrupt controllers that end with the machine. A panic's
	 * reset is called warm (Linux 5.2), which vm.c looks for; to an older
	 * kernel the word is a type of reset, which the k behind it replaces.
	 * The i8042 has only the reset line.
	 */
	add(&t, "panic=-1 reboot=panic_warm,k,f i8042.noaux i8042.nokbd");
	/* The kernel need not look for a bus that does not exist. */
	if (facts->has_pci)
		add(&t, "pci=off");
	/*
	 * A lone CPU would take the LOCK prefixes out of its kernel's text,
	 * one write through a mapping of its own for each of some 8,000: a
	 * fifth of the whole boot. Linux compares this parameter's beginning
	 * only (obsolete_checksetup()), and the dot keeps a kernel that lacks
	 * it, as it has no SMP, from giving it to init.
	 */
	if (machine->cpus == 1)
		add(&t, "noreplace-smp.");
	if (facts->assist)
		add(&t, "%s", facts->assist + (facts->assist[0] == ' '));
	if (facts->list_devices) {
		for (unsigned i = 0; i < machine->nvirtio; i++)
			add(&t, "virtio_mmio.device=%u@0x%llx:%u",
			    machine->virtio[i].bytes,
			    (unsigned long long)machine->virtio[i].base,
			    machine->virtio[i].gsi);
	}
	if (facts->has_disk && !facts->has_initrd &&
	    !mentions(facts->append, "root"))
		add(&t, "root=/dev/vda %s", facts->disk_readonly ? "ro" : "rw");
	if (facts->append)
		add(&t, "%s", facts->append);
	return check_length(&t, facts);
}
