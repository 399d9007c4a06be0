# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# A network interface on a tap: its address and MTU, ping, a checked stream
# both ways.

. "$TOP/tests/boot/net-lib.sh"

tap_make()
{
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	ip link set lo up
	tap=bht0
	"$GUEST/guest" "tap:$tap:10.99.1.1:$1" >host.out ||
		skip "no tap can be made: $(cat host.out)"
}

stream()
{
	local size=32M

	tap_make 1500
	"$GUEST/guest" "serve:5001:$size" >host.out &
	guest "nic:eth0:address:02-00-00-00-be-ef,nic:eth0:mtu:1500,\
net:eth0:10.99.1.2,ping:10.99.1.1:5:56,ping:10.99.1.1:3:1400,\
send:10.99.1.1:5001:$size" --net "tap=$tap,mac=02:00:00:00:be:ef"
	expect_ok
	wait $! || fail "the host's end: $(cat host.out)"
	echo "guest to host $(fact sent) MiB/s, back $(fact received) MiB/s"
}

test_tap()
{
	on_own_net stream
}

mtu()
{
	tap_make 9000
	guest 'nic:eth0:mtu:9000,net:eth0:10.99.1.2,ping:10.99.1.1:3:8972' \
		--net "tap=$tap"
	expect_ok
}

test_mtu()
{
	on_own_net mtu
}

# A busy tap is refused, and the first user keeps it.
busy()
{
	tap_make 1500
	guest_start vm hang --net "tap=$tap"
	wait_for vm.out hanging
	for name in vcpu0 net0; do
		grep -qx "$name" "/proc/$(guest_pid vm)/task"/*/comm ||
			fail "no thread $name"
	done
	guest echo:no --net "tap=$tap"
	[ "$status" -eq 2 ] || [ "$status" -eq 3 ] || fail "status $status"
	expect_error "$tap" use
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	expect_status 143
}

test_tap_busy()
{
	on_own_net busy
}
