# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Every way a guest ends, and the exit status that tells.

test_poweroff()
{
	guest poweroff
	expect_ok
}

test_reboot()
{
	guest reboot
	expect_ok
}

test_panic()
{
	guest panic
	expect_status 1
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

test_no_root()
{
	boot --kernel "$KERNEL"
	expect_status 1
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
	# Those come first, and then this one, which tells that they did nothing.
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
