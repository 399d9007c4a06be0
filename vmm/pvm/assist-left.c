/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pvm/assist-left.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#define SHOWN 12 /* instructions */

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64 ... 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return (byte & 0xf0) == 0x40; /* REX */
	}
}

void left_count(struct left *left, enum interp_cause cause,
		const uint8_t code[LEFT_BYTES])
{
	unsigned at = 0;

	left->cause[cause]++;
	while (at < LEFT_BYTES - 2 && is_prefix(code[at]))
		at++;
	if (code[at] == 0x0f)
		left->opcode[1][code[at + 1]]++;
	else
		left->opcode[0][code[at]]++;
}

/* Those that are known to come often; "": the opcode says enough. */
static const char *name_of(bool after_0f, unsigned opcode)
{
	static const struct {
		uint8_t after_0f, opcode;
		const char *name;
	} names[] = {
		{0, 0x8e, "MOV to a segment"},
		{0, 0x9d, "POPF"},
		{0, 0xcf, "IRET"},
		{0, 0xe4, "IN"},
		{0, 0xe6, "OUT"},
		{0, 0xec, "IN"},
		{0, 0xed, "IN"},
		{0, 0xee, "OUT"},
		{0, 0xef, "OUT"},
		{0, 0xf4, "HLT"},
		{0, 0xfb, "STI"},
		{1, 0x00, "LLDT, LTR"},
		{1, 0x01, "LGDT, LIDT, INVLPG, RDTSCP"},
		{1, 0x07, "SYSRET"},
		{1, 0x0b, "UD2"},
		{1, 0x20, "MOV from a control register"},
		{1, 0x21, "MOV from a debug register"},
		{1, 0x22, "MOV to a control register"},
		{1, 0x23, "MOV to a debug register"},
		{1, 0x30, "WRMSR"},
		{1, 0x31, "RDTSC"},
		{1, 0x32, "RDMSR"},
		{1, 0xa2, "CPUID"},
		{1, 0xae, "XSAVE, XRSTOR"},
		{1, 0xc7, "CMPXCHG16B, XSAVES, RDRAND"},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (names[i].after_0f == after_0f && names[i].opcode == opcode)
			return names[i].name;
	}
	return "";
}

void left_log(const struct left *left, unsigned vcpu)
{
	const uint64_t *cause = left->cause;
	uint64_t below = UINT64_MAX;

	log_debug("assists: vCPU %u: left to KVM: %llu not known, %llu that "
		  "fault or are for a device, %llu writes to page tables, "
		  "%llu after so many, %llu when an event was due",
		  vcpu, (unsigned long long)cause[INTERP_UNKNOWN],
		  (unsigned long long)cause[INTERP_ACCESS],
		  (unsigned long long)cause[INTERP_TABLE],
		  (unsigned long long)cause[INTERP_BUDGET],
		  (unsigned long long)cause[INTERP_EVENT]);
	for (unsigned shown = 0; shown < SHOWN; shown++) {
		uint64_t most = 0;

		/* The place breaks ties, so that each is shown once. */
		for (unsigned i = 0; i < 512; i++) {
			uint64_t n = left->opcode[i / 256][i % 256];
			uint64_t key = n << 9 | i;

			if (n > 0 && key < below && key > most)
				most = key;
		}
		if (most == 0)
			break;
		below = most;
		log_debug("assists: vCPU %u: left to KVM: %llu of %s%02x %s",
			  vcpu, (unsigned long long)(most >> 9),
			  most & 256 ? "0f " : "", (unsigned)(most & 255),
			  name_of(most & 256, most & 255));
	}
}
