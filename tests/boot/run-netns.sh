# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead run --network namespace`: a guest in place of a network namespace's
# stack. The test's own namespace is the peer; the box, which the guest gets, is
# another one.

. "$TOP/tests/boot/run-lib.sh"

# in_peer FUNCTION: runs it in a network namespace that ends with it.
in_peer()
{
	need_root
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	unshare -n true 2>/dev/null || skip "no network namespaces"
	unshare -n "$BASH" "$TOP/tests/boot/lib.sh" "${BASH_SOURCE[0]}" "$1"
	exit $?
}

make_box()
{
	unshare -n sleep 100000 &
	box=$!
	trap 'end_all; kill "$box"' EXIT
	wait_until is_apart || fail "the box has no namespace"
	{
		ip link add bht0 type veth peer name eth0 netns $box &&
			ip link add bht1 type veth peer name net7 netns $box &&
			ip address add 10.1.0.1/24 dev bht0 &&
			ip address add fd01::1/64 dev bht0 nodad &&
			ip address add 169.254.1.1/32 dev bht1 &&
			ip link set bht0 mtu 1400 && ip link set lo up &&
			ip link set bht0 up && ip link set bht1 up &&
			ip route add 10.2.0.2 dev bht1 src 169.254.1.1
	} >ip.out 2>&1 || skip "no network can be made: $(tail -n 1 ip.out)"
	in_box sh -ec 'ip link set lo up
		ip link set eth0 mtu 1400 address 02:42:00:00:00:07 up
		ip link set net7 address 02:42:00:00:00:08 up
		ip address add 10.1.0.2/24 dev eth0
		ip address add fd01::2/64 dev eth0 nodad
		ip address add 10.2.0.2/32 dev net7
		ip route add 169.254.1.1 dev net7
		ip route add 10.3.0.0/16 via 169.254.1.1 dev net7 metric 77
		ip route add default via 10.1.0.1
		ip neighbour add 10.1.0.9 lladdr 02:42:00:00:00:09 dev eth0' \
		>ip.out 2>&1 || fail "the box: $(tail -n 1 ip.out)"
}

is_apart()
{
	! [ "/proc/$box/ns/net" -ef /proc/self/ns/net ]
}

in_box()
{
	nsenter -t "$box" -n "$@"
}

# box ARGUMENT...: bulkhead in it, by the command `within`.
within=()
box()
{
	command="in the box: bulkhead $*"
	status=0
	timeout -k 5 "$LIMIT" nsenter -t "$box" -n "${within[@]}" \
		"$BULKHEAD" "$@" >out 2>err \
		</dev/null || status=$?
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
}

# guest_has TEXT / guest_lacks TEXT: what the guest says of its interfaces
guest_has()
{
	bulkhead exec one sh -c 'ip address; ip route' && has_text out "$1"
}

guest_lacks()
{
	bulkhead exec one ip address && ! has_text out "$1"
}

# guest_mtu NAME MTU
guest_mtu()
{
	bulkhead exec one cat "/sys/class/net/$1/mtu" && [ "$(cat out)" = "$2" ]
}

# add_pair NUMBER [MAC]: eth20 and on, with addresses, in the box and here
add_pair()
{
	{
		ip link add "bht$1" type veth peer name "eth$1" netns "$box" &&
			ip address add "10.$1.0.1/24" dev "bht$1" &&
			ip link set "bht$1" up &&
			in_box ip link set "eth$1" address "02:42:00:00:$1:01" &&
			in_box ip address add "10.$1.0.2/24" dev "eth$1" &&
			in_box ip link set "eth$1" up
	} >ip.out 2>&1 || fail "$(cat ip.out)"
}

# told TEXT: the user was, on standard error
told()
{
	bulkhead logs one && has_text err "$1"
}

# More come than there is room for: each that goes makes room for another one.
places()
{
	local i

	# net7 has left its place as well.
	for i in 20 21 22 23 24 25; do
		add_pair "$i"
		[ "$i" = 25 ] || wait_until guest_has "10.$i.0.2/24" ||
			fail "no eth$i: $(bulkhead logs one; tail -n 4 out)"
	done
	wait_until told 'no place' || fail "nothing about eth25"
	guest_lacks eth25 || fail "eth25"
	ip link del bht21
	wait_until guest_has 10.25.0.2/24 || fail "no eth25: $(cat out)"
	guest_lacks eth21 || fail "eth21 stays"
	bulkhead exec one ping -c 1 10.25.0.1
	expect_ok
	for i in 20 22 23 24 25; do
		ip link del "bht$i"
	done
	wait_until guest_lacks eth2 || fail "interfaces stay"
}

finds_name()
{
	bulkhead exec one nslookup -type=a outside.test 127.0.0.11 &&
		has_text out 10.7.7.7
}

# The box has a name server from its second network on, as by `docker network
# connect`. It asks outside by the first one, whose answers it is to get.
names()
{
	setpriv --pdeathsig KILL perl "$TOP/tests/boot/names.pl" 10.1.0.1 \
		>names.log 2>&1 &
	in_box setpriv --pdeathsig KILL perl "$TOP/tests/boot/names.pl" \
		127.0.0.11 10.1.0.1 >inner.log 2>&1 &
	wait_for names.log ready
	wait_for inner.log ready
	echo nameserver 127.0.0.11 >resolv.conf
	add_pair 30
	wait_until guest_has 10.30.0.2/24 || fail "no eth30: $(cat out)"
	wait_until finds_name || fail "no name: $(bulkhead logs one; cat out err)"
	! sed -n 's/^asked from //p' names.log | awk '$1 < 64512' | grep . ||
		fail "not the ports of a joined namespace"
	ip link del bht30
	wait_until guest_lacks eth30 || fail "eth30 stays"
	finds_name || fail "no name without the second network: $(cat out err)"
}

# An interface comes, changes and goes twice while the guest runs, as by
# `docker network connect` and `disconnect`; and one that it had from its start.
follows()
{
	local i

	for i in 1 2; do
		{
			ip link add bht9 type veth peer name eth9 netns "$box" &&
				ip address add 10.9.0.1/24 dev bht9 &&
				ip link set bht9 up &&
				in_box ip link set eth9 \
					address "02:42:00:00:09:0$i" &&
				in_box ip address add 10.9.0.2/24 dev eth9 &&
				in_box ip link set eth9 up
		} >ip.out 2>&1 || fail "$(cat ip.out)"
		wait_until guest_has 10.9.0.2/24 ||
			fail "no eth9: $(bulkhead logs one; tail -n 4 out)"
		expect_out "02:42:00:00:09:0$i"
		expect_out '10.9.0.0/24 dev eth9'
		bulkhead exec one ping -c 1 10.9.0.1
		expect_ok
		wait_until busybox ping -c 1 10.9.0.2 >ip.out || fail "no answer"
		in_box ip address add 10.9.0.3/24 dev eth9
		in_box ip route add 10.99.0.0/16 via 10.9.0.1
		wait_until guest_has '10.99.0.0/16 via 10.9.0.1' || fail "no route"
		expect_out 10.9.0.3/24
		in_box ip link set eth9 mtu 1300
		wait_until guest_mtu eth9 1300 || fail "its MTU: $(cat out)"
		ip link set bht9 mtu 9000
		in_box ip link set eth9 mtu 9000
		wait_until guest_mtu eth9 9000 || fail "its MTU: $(cat out)"
		bulkhead exec one ping -c 1 -s 8900 10.9.0.1
		expect_ok
		in_box ip address del 10.9.0.3/24 dev eth9
		wait_until guest_lacks 10.9.0.3 || fail "the address stays"
		ip link del bht9
		wait_until guest_lacks eth9 || fail "the interface stays"
	done
	ip link del bht1
	wait_until guest_lacks net7 || fail "net7 stays"
	bulkhead exec one ping -c 1 10.1.0.1
	expect_ok
}

namespace()
{
	local text

	make_box
	make_root
	cp "$GUEST/guest" root/bin/guest
	"$GUEST/guest" serve:5001:1M >tcp.out &
	echo nameserver 10.1.0.1 >resolv.conf
	within=(unshare -m sh -c 'mount -o bind resolv.conf /etc/resolv.conf &&
		exec "$@"' sh)
	box run -d --name one --network namespace root sh -c '
		cat /sys/class/net/*/address; ip address; ip route; ip -6 route
		ip neigh
		ping -c 1 10.1.0.1 && ping -c 1 fd01::1 &&
			ping -c 1 169.254.1.1 && guest send:10.1.0.1:5001:1M &&
			echo outbound
		while :; do guest serve:5002:1M; done'
	expect_status 0
	wait_until logged one outbound || fail "$(cat out err)"
	wait $! || fail "the peer's end: $(cat tcp.out)"
	# The box has nobody who listens, and does not say so to the peer.
	wait_until "$GUEST/guest" send:10.1.0.2:5002:1M >tcp.out 2>&1 ||
		fail "$(cat tcp.out)"
	bulkhead logs one
	for text in 'eth0: ' 'net7: ' 'mtu 1400' 02:42:00:00:00:07 10.1.0.2/24 \
		02:42:00:00:00:08 fd01::2/64 'default via 10.1.0.1' \
		'10.3.0.0/16 via 169.254.1.1' 'metric 77'; do
		expect_out "$text"
	done
	ip link set bht0 mtu 1500
	in_box ip link set eth0 mtu 1500
	wait_until guest_mtu eth0 1500 || fail "eth0's MTU: $(cat out)"
	! in_box ip -o link | grep 'bhtap.* mtu 1400' || fail "its tap's MTU"
	within=()
	follows
	places
	names
	box run --rm --network namespace root true
	expect_status 125
	expect_error eth0 'another guest'
	# Nobody is left who could undo anything.
	# shellcheck disable=SC2046 # several
	kill -KILL $(our_processes)
	wait_until no_process || fail "a process is left"
	bulkhead rm -f one
	box run --rm --network namespace root ping -c 1 10.1.0.1
	expect_ok
	# The box has its network again, by itself.
	wait_until in_box busybox ping -c 1 10.1.0.1 >/dev/null 2>&1 ||
		fail "the box is cut off"
	[ -z "$(in_box tc filter show dev eth0 ingress)" ] || fail "a filter"
	! in_box ip link | grep -q bhtap || fail "a tap"
}

test_namespace()
{
	! in_lab || {
		make_root
		bulkhead run --rm --network namespace root true
		expect_status 125
		expect_error "host's own"
	}
	in_peer namespace
}
