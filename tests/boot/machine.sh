# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Memory and CPUs, from the smallest machine to the largest.

test_memory_32m()
{
	guest memory:8M:32M,fill:2M --memory 32M
	expect_ok
}

test_memory_64m()
{
	guest memory:36M:64M,fill:16M --memory 64M
	expect_ok
}

# Beyond the hole below 4 GiB.
test_memory_5g()
{
	guest memory:4800M:5120M,fill:8M --memory 5G
	expect_ok
	[ "$(fact high-pages)" -gt 0 ] ||
		fail "no page above 4 GiB was in use"
}

test_cpus_2()
{
	guest cpus:2 --cpus 2 --memory 128M
	expect_ok
}

# Copy-on-write, exec, signals: page tables change all the time.
test_processes()
{
	guest processes:6,faults:20
	expect_ok
}

test_processes_2()
{
	guest processes:6,faults:20 --cpus 2
	expect_ok
}

# The kernel is entered in ways that hosts without hardware virtualization have
# to make good; the guest would lose its timer, or get the wrong signal.
test_entries()
{
	guest oddsyscall,oddint,oddsyscall
	expect_ok
}

test_cpus_8()
{
	guest cpus:8 --cpus 8
	expect_ok
}

test_cpus_32()
{
	guest cpus:32 --cpus 32
	expect_ok
}

# Entropy; and a machine without devices has none.
# KVM cannot give a rate outside a tolerance; here, no rate is inside. A guest
# would start, and sleep for ever.
test_no_tsc_rate()
{
	local tolerance=/sys/module/kvm/parameters/tsc_tolerance_ppm before

	[ -n "${BULKHEAD_LAB-}" ] || skip "it breaks KVM: only in the lab"
	before=$(cat "$tolerance")
	echo 4294967295 >"$tolerance"
	guest sleep:10
	echo "$before" >"$tolerance"
	expect_status 3
	expect_error "KVM_SET_TSC_KHZ"
	guest sleep:10
	expect_ok
}

test_rng()
{
	guest rng
	expect_ok
}

# No --device, no console: the exit port is all there is.
test_bare()
{
	guest exit:42 --console none --no-rng
	expect_status 42
	expect_silence
	[ ! -s out ] || fail "a machine without a console said something"
}

# The monitor's own memory, beyond the guest's, stays small.
test_monitor_memory()
{
	local kib

	guest_start vm hang --memory 128M
	wait_for vm.out hanging
	own_memory "$(guest_pid vm)"
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	[ "$kib" -gt 0 ] || fail "cannot tell the monitor's memory"
	[ "$kib" -lt 1024 ] || {
		cat mappings
		fail "the monitor has $kib KiB of its own"
	}
}

test_two_at_once()
{
	cp "$GUEST/root.erofs" a
	guest_start one spin:1,echo:first --disk a,readonly
	guest_start two spin:1,echo:second --disk a,readonly
	guest_wait one
	expect_ok
	expect_out first
	guest_wait two
	expect_ok
	expect_out second
}
