# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Every way a guest ends, and the exit status that tells.

test_reboot()
{
	guest reboot
	expect_ok
}

# A status of its own tells a reboot from a power-off, and so does the log.
test_reboot_status()
{
	guest reboot --reboot-status 133 --log-level info
	expect_status 133
	expect_error 'the guest rebooted'
	guest poweroff --reboot-status 133 --log-level info
	expect_status 0
	expect_error 'the guest powered off'
	guest panic --reboot-status 133 --log-level info
	expect_status 1
	expect_error 'the guest panicked'
	guest exit:0 --log-level info
	expect_status 0
	expect_error 'the guest ended with status 0'
}

# Debian's kernel has pvpanic's driver in a module, so that a panic looks like
# a reboot but for the reset's mark, by the keyboard controller and by ACPI.
test_stock_panic()
{
	local lab how

	lab=$("$TOP/tests/lab/prepare") || skip "no kernel of Debian's here"
	for how in k a; do
		KERNEL=$lab/vmlinuz guest panic --console serial \
			--memory 512M --append "reboot=$how test=panic"
		expect_status 1
		# The first boot says that it unpacks the kernel.
		has_text err 'the guest panicked' ||
			fail "no word of the panic"
		KERNEL=$lab/vmlinuz guest reboot --console serial \
			--memory 512M --append "reboot=$how test=reboot"
		expect_ok
	done
}

# The first boot writes to the disk and reboots, the second powers off.
test_restart()
{
	truncate -s 1M disk
	guest reboot-once:vda --on-reboot restart --disk disk \
		--log-level info
	expect_status 0
	expect_out 'first time'
	expect_out 'second time'
	[ "$(sed 's/.*: //' err)" = "the guest rebooted
the guest powered off" ] || fail 'other messages'
	# An end that is not a reboot ends the monitor as well.
	guest panic --on-reboot restart
	expect_status 1
}

# It restarts for ever; a signal to the process that was started ends it, and
# so does one to the VM's.
test_restart_signal()
{
	local vm

	guest_start vm sleep:100,reboot --on-reboot restart
	vm=$(guest_pid vm)
	until [ "$(grep -c 'ok sleep' vm.out)" -ge 2 ]; do
		kill -0 "$vm" 2>/dev/null || fail 'it ended'
		sleep 0.1
	done
	kill -TERM "$vm"
	guest_wait vm
	expect_status 143
	guest_start vm hang --on-reboot restart
	wait_for vm.out hanging
	read -r vm _ <"/proc/$(guest_pid vm)/task/$(guest_pid vm)/children"
	kill -KILL "$vm"
	guest_wait vm
	expect_status 137
}

# has_ended PID
has_ended()
{
	! kill -0 "$1" 2>/dev/null
}

# When the process that was started is killed, its VM ends, too.
test_restart_killed()
{
	local vm

	guest_start vm hang --on-reboot restart
	wait_for vm.out hanging
	read -r vm _ <"/proc/$(guest_pid vm)/task/$(guest_pid vm)/children"
	kill -KILL "$(guest_pid vm)"
	guest_wait vm
	expect_status 137
	wait_until has_ended "$vm" || fail 'the VM lives on'
}

# Linux's reboot=t loads an empty IDT and raises a fault.
test_triple_fault()
{
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--append 'reboot=t test=reboot'
	expect_status 1
	expect_error 'triple fault'
}

test_exit_port()
{
	guest exit:7
	expect_status 7
}

# Linux says "Unable to mount root fs"; people need to know what to add.
test_no_root()
{
	boot --kernel "$KERNEL"
	expect_status 1
	has_text err 'it was given no root' || fail "no word of the root"
	guest panic
	expect_status 1
	if has_text err 'no root'; then
		fail "an initrd is a root"
	fi
}

test_sigterm()
{
	guest_start vm hang
	wait_for vm.out hanging
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	expect_status 143
}

# A guest that runs user code all the time can be stopped as well.
test_sigterm_busy()
{
	guest_start vm echo:busy,spin:100 --cpus 2
	wait_for vm.out busy
	sleep 0.3
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	expect_status 143
}

# nohup(1), and the shell for a script's background jobs, start a program with
# signals ignored: they must not end the guest.
test_ignored_signals()
{
	local pid s

	trap '' HUP INT QUIT
	"$BULKHEAD" boot --kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--append test=hang >vm.out 2>err </dev/null &
	pid=$!
	trap - HUP INT QUIT
	wait_for vm.out hanging
	for s in HUP INT QUIT; do
		kill "-$s" "$pid"
	done
	# The guest ends by this signal, so the three before it had no effect.
	sleep 0.3
	kill -TERM "$pid"
	status=0
	wait "$pid" || status=$?
	expect_status 143
	expect_silence
}

test_sigkill()
{
	guest_start vm hang
	wait_for vm.out hanging
	kill -KILL "$(guest_pid vm)"
	guest_wait vm
	expect_status 137
}
