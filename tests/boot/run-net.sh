# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead run` and networks: none, passt's with published ports, as root and
# as somebody else, and a tap; and what is left of them when something dies.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/net-lib.sh"

# make_net_root: a root that has the test's own servers and clients. A shell
# starts them, as the program takes itself for the test guest's init as PID 1.
make_net_root()
{
	make_root
	cp "$GUEST/guest" root/bin/guest
}

# start NAME ARGUMENT...: `run -d`.
start()
{
	local name=$1

	shift
	bulkhead run -d --name "$name" "$@"
	expect_status 0
}

# ask STEP: a client on the host, until there is an answer.
ask()
{
	wait_until ask_once "$1" || fail "$1: $(cat host.out)"
}

ask_once()
{
	"$GUEST/guest" "$1" >host.out 2>&1
}

test_none()
{
	make_root
	run --rm root sh -c 'ls /sys/class/net; ping -c 1 127.0.0.1'
	expect_status 0
	expect_no_out eth0
	run --rm -p 8080:80 root true
	expect_status 125
	expect_error publish 'network user'
}

outbound()
{
	make_host
	make_net_root
	"$GUEST/guest" serve:5001:1M >tcp.out &
	"$GUEST/guest" answer:5002 >udp.out &
	bulkhead run --rm --network user root /bin/sh -c \
		'cat /etc/resolv.conf; guest send:192.0.2.1:5001:1M &&
			guest ask:192.0.2.1:5002:1000; exit'
	expect_ok
	expect_out 'nameserver 10.0.2.3'
	wait || fail "the host's ends: $(cat tcp.out udp.out)"
	expect_nothing_left
	no_passts 10.0.2.15
}

test_outbound()
{
	on_host outbound
}

# Ports, a range of them, of one address, of UDP; and what is said when one
# is somebody else's.
published()
{
	make_host
	make_net_root
	start one --rm -p 8080:80 -p 127.0.0.1:8090-8092:80-82 -p 8081:81/udp \
		-p 80 -p 127.0.0.1::82-83 -p 83/udp \
		root sh -c 'guest answer:81 & guest answer:83 & while :; do guest serve:80:1M
			done & while :; do guest serve:82:1M; done'
	"$BULKHEAD" ps >out
	expect_out '*:8080->80/tcp'
	expect_out '127.0.0.1:8090-8092->80-82/tcp'
	expect_out '*:8081->81/udp'
	ask send:192.0.2.1:8080:1M
	ask send:127.0.0.1:8092:1M
	ask ask:192.0.2.1:8081:1000
	# The host's kernel chooses the ports.
	ask "send:192.0.2.1:$(sed -n 's/.*\*:\([0-9]*\)->80\/tcp, .*/\1/p' out):1M"
	ask "send:127.0.0.1:$(sed -n 's/.* 127.0.0.1:\([0-9]*\)->82\/tcp, .*/\1/p' out):1M"
	ask "ask:192.0.2.1:$(sed -n 's/.*\*:\([0-9]*\)->83\/udp$/\1/p' out):1000"
	! busybox nc -w 2 192.0.2.1 8092 </dev/null >host.out 2>&1 ||
		fail "a port of the loopback's is open to others"
	bulkhead run --rm -p 8080:80 root true
	expect_status 125
	expect_error 8080/tcp 'in use' 'publish another'
	bulkhead run -d --rm -p 9000:90 -p 8091:80 root true
	expect_status 125
	expect_error 8091/tcp 'in use' 'publish another'
	! grep -qE 'guest:|-t ' err || fail "those are not the user's words"
	bulkhead rm -f one
	expect_nothing_left
	no_passts 10.0.2.15
}

test_published()
{
	on_host published
}

# One that is restored has a passt of its own, with other ports beside those of
# the first one, and its addresses.
restored()
{
	make_host
	make_net_root
	start one --rm -p 8080:80 root sh -c 'while :; do guest serve:80:1M; done'
	ask send:127.0.0.1:8080:1M
	bulkhead snapshot one snap
	expect_ok
	bulkhead restore -d --rm snap
	expect_status 125
	expect_error 8080/tcp 'in use'
	bulkhead restore -d --rm --name two -p 8084:80 snap
	expect_ok
	ask send:127.0.0.1:8084:1M
	ask send:127.0.0.1:8080:1M
	"$BULKHEAD" exec two ip addr >out
	expect_out 10.0.2.15
	"$BULKHEAD" ps >out
	expect_out '*:8084->80/tcp'
	bulkhead rm -f one two
	expect_nothing_left
	no_passts 10.0.2.15
}

test_restored()
{
	on_host restored
}

# Where passt may make no namespace `run` does without a network, and says so
# in a line; asked for, a network is an error; `check` has tried.
no_namespace()
{
	make_host
	make_net_root
	cat >inside <<-'END'
		echo 0 >/proc/sys/user/max_user_namespaces || exit 77
		"$BULKHEAD" check >check.out
		"$BULKHEAD" run --rm root ls /sys/class/net >out 2>err
		echo "$?" >status
		"$BULKHEAD" run --rm --network user root true >out2 2>err2
		echo "$?" >status2
	END
	unshare -Ur sh inside || skip "no namespace without namespaces"
	status=$(cat status)
	expect_status 0
	expect_no_out eth0
	expect_error passt 'no user namespace' '--network none'
	[ "$(cat status2)" -eq 125 ] || fail "$(cat status2): $(cat err2)"
	grep -q 'no user namespace' err2 || fail "reason: $(cat err2)"
	grep -q '^loss  passt: .*no user namespace' check.out ||
		fail "check: $(cat check.out)"
	expect_nothing_left
}

test_no_namespace()
{
	on_host no_namespace
}

# When one of the processes is killed, the others end, too.
ends()
{
	make_host
	make_net_root
	run_user_start one
	kill -KILL "$(guest_pid one)"
	guest_wait one
	expect_status 137
	no_passts 8093:80
	expect_swept

	run_user_start one
	kill -KILL "$(monitor_pid one)"
	guest_wait one
	expect_status 137
	no_passts 8093:80
	expect_nothing_left

	# Without passt the guest goes on, offline, and ends as it wants to.
	run_user_start one
	# shellcheck disable=SC2046 # may be several
	kill -KILL $(passts 8093:80)
	wait_for one.err 'passt'
	# The machine may end before it has told of this command's end.
	"$BULKHEAD" exec one touch /tmp/end 2>exec.err
	guest_wait one
	expect_status 5
	expect_nothing_left
	no_passts 8093:80
}

# An instance that runs until /tmp/end is there, with a published port.
run_user_start()
{
	timeout -k 5 "$LIMIT" "$BULKHEAD" run --rm --name "$1" -p 8093:80 \
		root sh -c 'echo ready
			while ! test -e /tmp/end; do sleep 0.1; done
			exit 5' >"$1.out" 2>"$1.err" </dev/null &
	running[$1]=$!
	wait_for "$1.out" ready
	[ -n "$(passts 8093:80)" ] || fail "no passt"
}

test_ends()
{
	on_host ends
}

# Somebody who may use /dev/kvm and nothing else. Copies of all that is needed
# lie where that user can get at them, in the test's own mount namespace.
unprivileged()
{
	local user=12345

	need_root
	make_host
	make_net_root
	# The user may not be let to where the tree is.
	mkdir -p home/tests
	cp -a "$TOP/tests/boot" home/tests/
	cp -a root home/
	cp "$BULKHEAD" home/bulkhead
	cp "$KERNEL" home/vmlinux
	chown -R $user:$user home
	busybox mount -o bind home /mnt || skip "no mounts"
	{
		busybox mount -t tmpfs none /dev/shm &&
			mkdir -m 755 /dev/shm/dev &&
			mknod -m 600 /dev/shm/dev/kvm c 10 232 &&
			chown $user /dev/shm/dev/kvm &&
			busybox mount -o bind /dev/shm/dev/kvm /dev/kvm
	} || skip "no /dev/kvm of its own"
	export BULKHEAD=/mnt/bulkhead KERNEL=/mnt/vmlinux HOME=/mnt TOP=/mnt
	export GUEST=/mnt/root/bin
	setpriv --reuid $user --regid $user --clear-groups --bounding-set=-all \
		"$BASH" -c 'cd /mnt && . "$TOP/tests/boot/lib.sh"
			. "$TOP/tests/boot/run-net.sh"; as_user' || exit
	no_passts 10.0.2.15
}

as_user()
{
	unshare -U true 2>/dev/null || skip "no user namespaces for users"
	start one --rm -p 8080:80 root sh -c \
		'id -u; echo x >/file; chown 7:8 /file
		while :; do guest serve:80:1M; done'
	ask send:127.0.0.1:8080:1M
	bulkhead exec one stat -c %u:%g:%s /file
	expect_out 7:8:2
	bulkhead logs one
	expect_out 0
	bulkhead run --rm -p 80:80 root true
	expect_status 125
	grep -q 80 err || fail "no word of the port"
	bulkhead stop -t 0 one
	expect_status 0
	expect_nothing_left
}

test_unprivileged()
{
	on_host unprivileged
}

# The tap is the host's: it is there afterwards, and free.
with_tap()
{
	local network

	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	ip link set lo up
	tap=bht0
	"$GUEST/guest" "tap:$tap:10.99.1.1:1500" >host.out ||
		skip "no tap can be made: $(cat host.out)"
	network=tap=$tap,address=10.99.1.2/24,gateway=10.99.1.1
	make_net_root
	"$GUEST/guest" serve:5001:1M >host.out &
	bulkhead run --rm --network "$network,mac=02:00:00:00:be:ef" \
		--dns 192.0.2.53 root sh -c 'cat /sys/class/net/eth0/address
			cat /etc/resolv.conf; ip route
			ping -c 3 10.99.1.1 && guest send:10.99.1.1:5001:1M; exit'
	expect_ok
	wait $! || fail "the host's end: $(cat host.out)"
	expect_out 02:00:00:00:be:ef
	expect_out 'nameserver 192.0.2.53'
	expect_out 'default via 10.99.1.1'
	bulkhead run -d --rm --name one --network "$network" root sleep 1000
	expect_status 0
	bulkhead run --rm --network "$network" root true
	expect_status 125
	grep -qF "$tap" err || fail "no word of the tap"
	kill -KILL "$(monitor_pid one)"
	expect_swept
	bulkhead run --rm --network "$network" root true
	expect_ok
	bulkhead run --rm --network tap=bht-no root true
	expect_status 125
	grep -qF bht-no err || fail "no word of the tap"
	bulkhead run --rm -p 8080:80 --network "$network" root true
	expect_status 125
	expect_error publish
}

test_tap()
{
	on_own_net with_tap
}
