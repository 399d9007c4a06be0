# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# The vsock device: connections from either end, many at once, half-closed,
# slow and fast; and what is left of it afterwards.

# host ACTION...: the host's end, in the foreground.
host()
{
	timeout -k 5 "$LIMIT" "$GUEST/guest" "$@" >host.out 2>&1 ||
		fail "the host's end: $(cat host.out)"
}

# host_start ACTION: the same in the background, listening, up to host_end.
host_start()
{
	timeout -k 5 "$LIMIT" "$GUEST/guest" "$1" >server.out 2>&1 &
	server=$!
	wait_for server.out listening
}

host_end()
{
	wait "$server" || fail "the host's end: $(cat server.out)"
}

# Nothing of the device stays but what the test made.
expect_no_socket()
{
	[ ! -e v.sock ] || fail "the socket is still there"
}

test_vsock_host_connects()
{
	guest_start vm sock-serve:52:3 --vsock v.sock
	wait_for vm.out listening
	[ "$(stat -c %a v.sock)" = 600 ] || fail "mode $(stat -c %a v.sock)"
	host sock-echo:./v.sock@52:1:1
	host sock-echo:./v.sock@52:2:300K
	guest_wait vm
	expect_ok
	expect_no_socket
}

test_vsock_guest_connects()
{
	host_start sock-serve:./v.sock_1024:3
	guest cid:77,sock-refused:1025,sock-echo:1024:1:1,sock-echo:1024:2:300K \
		--vsock v.sock,cid=77
	expect_ok
	host_end
	expect_no_socket
}

# The guest's kernel and the device with as many streams as the test has room.
test_vsock_many()
{
	local n=200 size=100K

	! is_slow || n=50
	host_start "sock-serve:./v.sock_1024:$n"
	guest_start vm "sock-serve:52:$n,sock-echo:1024:$n:$size" --cpus 2 \
		--vsock v.sock
	wait_for vm.out listening
	timeout "$LIMIT" "$GUEST/guest" "sock-echo:./v.sock@52:$n:$size" \
		>client.out || fail "the host's client: $(cat client.out)"
	guest_wait vm
	expect_ok
	host_end
}

test_vsock_bulk()
{
	local size=32M
	host_start "sock-sink:./v.sock_1024:$size"
	guest_start vm "sock-send:1024:$size,sock-sink:52:$size" --vsock v.sock
	wait_for vm.out listening
	host_end
	host "sock-send:./v.sock@52:$size"
	guest_wait vm
	expect_ok
	echo "guest to host $(fact sent) MiB/s, back" \
		"$(sed -n 's/^fact sent \([0-9]*\).*/\1/p' host.out) MiB/s"
}

# More programs connect than there are places, and say nothing: one that has
# something to say still gets through soon. (The monitor's limit of files is no
# less.)
test_vsock_silent()
{
	local silent

	guest_start vm sock-serve:52:1 --vsock v.sock
	wait_for vm.out listening
	"$GUEST/guest" sock-silent:./v.sock:1100 >silent.out 2>&1 &
	silent=$!
	wait_for silent.out silent
	host sock-echo:./v.sock@52:1:1
	kill "$silent"
	guest_wait vm
	expect_ok
	expect_no_socket
}

# A monitor that is killed leaves its socket; the next one takes its place.
# While it runs, no other gets it.
test_vsock_file()
{
	guest_start vm hang --vsock v.sock
	wait_for vm.out hanging
	guest echo:no --vsock v.sock
	expect_status 2
	expect_error v.sock use
	[ -S v.sock ] || fail "the second one took the socket away"
	kill -KILL "$(guest_pid vm)"
	guest_wait vm
	[ -S v.sock ] || fail "no socket is left: nothing is tested here"
	guest echo:again --vsock v.sock
	expect_ok
	expect_out again
	expect_no_socket
	echo precious >v.sock
	guest echo:no --vsock v.sock
	expect_status 2
	expect_error v.sock
	[ "$(cat v.sock)" = precious ] || fail "a file was overwritten"
}
