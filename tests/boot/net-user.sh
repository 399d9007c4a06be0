# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# The network `user`, with the real passt, on a host in namespaces.

. "$TOP/tests/boot/net-lib.sh"

NETWORK=net:eth0:10.0.2.15,route:10.0.2.2

outbound()
{
	local size=8M

	make_host
	"$GUEST/guest" "serve:5001:$size" >tcp.out &
	"$GUEST/guest" answer:5002 >udp.out &
	"$GUEST/guest" answer:53 >dns.out &
	guest "nic:eth0:mtu:65520,$NETWORK,send:192.0.2.1:5001:$size,\
ask:192.0.2.1:5002:60000,ask:10.0.2.3:53:100" --net user
	expect_ok
	wait || fail "the host's ends: $(cat tcp.out udp.out dns.out)"
	echo "guest to host $(fact sent) MiB/s, back $(fact received) MiB/s"
	no_passts 10.0.2.15
}

test_outbound()
{
	on_host outbound
}

# To a guest that has not said anything yet: it has no IPv6 to begin with.
published()
{
	make_host
	guest_start vm \
		"$NETWORK,serve:80:1M,answer:81,serve:82:1M ipv6.disable=1" \
		--net user,publish=8080:80,publish=8081:81/udp,publish=127.0.0.1:8090-8092:80-82
	wait_for vm.out 'listening at 80'
	"$GUEST/guest" send:192.0.2.1:8080:1M >host.out ||
		fail "port 80: $(cat host.out)"
	wait_for vm.out 'listening at 81'
	"$GUEST/guest" ask:192.0.2.1:8081:60000 >host.out ||
		fail "port 81: $(cat host.out)"
	wait_for vm.out 'listening at 82'
	"$GUEST/guest" send:127.0.0.1:8092:1M >host.out ||
		fail "port 82: $(cat host.out)"
	guest_wait vm
	expect_ok
}

test_published()
{
	on_host published
}

# The host's loopback is out of reach unless it is asked for.
loopback()
{
	make_host
	"$GUEST/guest" answer:5002 >host.out &
	guest "$NETWORK,unheard:10.0.2.2:5002:1000" --net user
	expect_ok
	guest "$NETWORK,ask:10.0.2.2:5002:1000" --net user,loopback,mtu=1500
	expect_ok
	wait || fail "the host's end: $(cat host.out)"
}

test_loopback()
{
	on_host loopback
}

# However the monitor ends, passt ends with it; and the other way round the
# guest goes on.
ends()
{
	local passt

	make_host
	guest_start vm hang --net user,publish=8093:80
	wait_for vm.out hanging
	[ -n "$(passts 8093:80)" ] || fail "no passt"
	kill -KILL "$(guest_pid vm)"
	guest_wait vm
	no_passts 8093:80

	guest_start vm hang --net user,publish=8093:80
	wait_for vm.out hanging
	passt=$(passts 8093:80)
	# shellcheck disable=SC2086 # may be several
	kill -KILL $passt
	wait_for vm.err 'link is down'
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	expect_status 143
}

test_ends()
{
	on_host ends
}

# Without a network: ports are published all the same, and there is one for the
# guest as soon as there is one for the host.
offline()
{
	ip link set lo up
	guest_start vm "$NETWORK,serve:80:1M,send:192.0.2.1:5001:1M" \
		--net user,publish=8080:80
	wait_for vm.out 'listening at 80'
	"$GUEST/guest" send:127.0.0.1:8080:1M >host.out ||
		fail "port 80: $(cat host.out)"
	make_host
	"$GUEST/guest" serve:5001:1M >tcp.out &
	guest_wait vm
	expect_ok
	wait || fail "the host's end: $(cat tcp.out)"
}

test_offline()
{
	on_host offline
}

# One line says that a port is taken, in the user's words and not in passt's.
refused()
{
	make_host
	"$GUEST/guest" serve:8094:1M >host.out &
	wait_for host.out listening
	boot --kernel "$KERNEL" --net user,publish=8094:80
	expect_status 2
	expect_error 8094/tcp 'in use' 'publish another'
	kill $!
	no_passts 8094:80
	boot --kernel "$KERNEL" --net user,publish=8094
	expect_status 2
	expect_error publish 8094
	command="bulkhead boot --net user, without passt"
	status=0
	env PATH=/nonexistent "$BULKHEAD" boot --kernel "$KERNEL" --net user \
		>out 2>err || status=$?
	expect_status 2
	expect_error passt install
}

test_refused()
{
	on_host refused
}
