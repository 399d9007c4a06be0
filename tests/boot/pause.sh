# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Guests that are paused many times while they work: tests/vmm/pause.c. It sees
# that nothing moves meanwhile; here it is seen that nothing was lost.

# pausing ACTIONS [OPTION]...: as guest, but paused all the time.
pausing()
{
	local actions=$1 pauser=${BULKHEAD%/*}/tests/vmm/pause

	shift
	[ -x "$pauser" ] || skip "$pauser is not built: make tests/vmm/pause"
	"$BULKHEAD" boot --kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--memory 64M \
		--append "test=$actions" "$@" --dump-config >config.json ||
		fail "--dump-config"
	command="pause: test=$actions $*"
	status=0
	timeout -k 5 "$LIMIT" "$pauser" config.json result ${end_after:+"$end_after"} \
		>out 2>err </dev/null || status=$?
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
	[ "$status" -ne 99 ] || fail "$(cat result)"
}

# expect_paused N: so often at least.
expect_paused()
{
	local paused

	read -r _ paused _ <result
	[ "$paused" -ge "$1" ] || fail "paused only $paused times"
	echo "paused $paused times"
}

# KVM's side of it, without a kernel.
test_pause_vcpu()
{
	local program=${BULKHEAD%/*}/tests/vmm/cpu/test-vcpu

	[ -x "$program" ] || skip "$program is not built"
	"$program" >out 2>&1 || fail "test-vcpu"
}

# Writes through the page cache and past it are under way at each pause.
test_pause_disk()
{
	local direct=,direct

	# Scratch directories may be in memory, which has no direct I/O.
	cd "$(mktemp -d "$GUEST.test.XXXXXX")" || skip "no directory on a disk"
	trap 'rm -rf "$PWD"' EXIT
	truncate -s 16M disk
	truncate -s 8M past
	dd if=past of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null ||
		direct=
	pausing 'write:vda:0:2M:11,check:vda:0:2M:11,discard:vda:8M:2M,'\
'write:vdb:0:2M:12,check:vdb:0:2M:12,check:vda:0:2M:11' --cpus 2 --disk disk \
		--disk "past$direct"
	expect_ok
	expect_paused 20
	"$GUEST/guest" "check:$PWD/disk:0:2M:11" "check:$PWD/past:0:2M:12" \
		>host.out || fail "$(cat host.out)"
}

test_pause_share()
{
	mkdir share
	pausing 'mount:t:/mnt,fsx:/mnt/fsx:100:7,tree:/mnt/tree:2:5,posix:/mnt:locks' \
		--share share,tag=t
	expect_ok
	expect_paused 20
}

# The host's end of the streams goes on while the guest is paused.
test_pause_vsock()
{
	local server

	timeout -k 5 "$LIMIT" "$GUEST/guest" "sock-serve:./v.sock_1024:8" \
		>server.out 2>&1 &
	server=$!
	wait_for server.out listening
	pausing "sock-echo:1024:8:2M" --cpus 2 --vsock v.sock
	expect_ok
	expect_paused 10
	wait "$server" || fail "the host's end: $(cat server.out)"
}

# Page tables change, timers fire, processors wait for each other.
test_pause_processes()
{
	pausing processes:2,faults:5,sleep:1000,rng --cpus 3
	expect_ok
	expect_paused 50
}

# Output by the UART, where each character is an exit.
test_pause_serial()
{
	pausing cpus:1 --console serial
	expect_status 0
	expect_no_out FAIL
	expect_out "ok cpus"
	expect_paused 10
}

# The end comes while the guest stands still.
test_pause_end()
{
	local end_after=25

	pausing hang --cpus 2
	expect_status 143
	expect_paused 25
}
