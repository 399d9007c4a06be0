# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead clone`: instances that go on where a running one is.

. "$TOP/tests/boot/run-lib.sh"
export BULKHEAD_STORE=$PWD/store

logs_have()
{
	bulkhead logs "$1"
	grep -q "$2" out
}

# counting NAME [OPTION]...: a container that counts, beside random numbers;
# SIGTERM ends it with 3.
counting()
{
	local name=$1

	shift
	start "$name" "$@" root sh -c '
		trap "echo told; exit 3" TERM
		n=0
		while :; do
			n=$((n + 1))
			echo $n >/tmp/next && mv /tmp/next /tmp/n
			echo n $n $(cat /proc/sys/kernel/random/uuid) $(hostname)
			sleep 0.2
		done'
	wait_until logs_have "$name" 'n 5 ' || fail "it does not count: $(cat out)"
}

# has_drawn NAME: NAME.random has the numbers that it has drawn. That of its
# first line may be from before: docs/STARTUP.
has_drawn()
{
	"$BULKHEAD" logs "$1" | sed 1d | cut -d' ' -f3 | sort >"$1.random"
	[ "$(wc -l <"$1.random")" -ge 3 ]
}

# The source goes on; each clone goes on where that was, under its own name, with
# random numbers of its own; and all three end as containers do.
test_goes_on()
{
	local name first

	make_root
	counting web
	bulkhead clone web 2
	expect_status 0
	[ "$(cat out)" = "web-1
web-2" ] || fail "not their names: $(cat out)"
	for name in web-1 web-2; do
		wait_until logs_have "$name" "n [0-9]* .* $name\$" ||
			fail "'$name' does not go on: $(cat out)"
		first=$(sed -n '1s/^n \([0-9]*\) .*/\1/p' out)
		[ "${first:-0}" -gt 5 ] || fail "'$name' began anew: $(cat out)"
		wait_until has_drawn "$name" || fail "'$name' stands still"
	done
	"$BULKHEAD" logs web | cut -d' ' -f3 | sort >web.random
	[ -z "$(comm -12 web-1.random web-2.random)" ] ||
		fail "equal random numbers of clones"
	[ -z "$(comm -12 web-1.random web.random)" ] ||
		fail "equal random numbers of a clone and its source"
	# No other has what one writes.
	bulkhead exec web-1 sh -c 'echo mine >/tmp/mine'
	expect_ok
	bulkhead exec web-2 cat /tmp/mine
	expect_status 1
	# The next one has a number that is free; one can have a name of its own,
	# and be a clone of a clone.
	bulkhead rm -f web-1
	bulkhead clone --rm -n web web
	expect_status 0
	[ "$(cat out)" = web-1 ] || fail "not its name: $(cat out)"
	bulkhead clone --name other web-2
	expect_status 0
	[ "$(cat out)" = other ] || fail "not its name: $(cat out)"
	bulkhead exec other hostname
	expect_out other
	bulkhead stop web-1
	bulkhead ps -a
	! grep -q web-1 out || fail "--rm: it is still there"
	bulkhead rm -f web
	# Its clones need it no more.
	bulkhead exec web-2 sh -c 'cat /tmp/n; hostname'
	expect_ok
	expect_out web-2
	bulkhead stop web-2
	bulkhead wait web-2
	expect_out 3
	logs_have web-2 told || fail "it was not told: $(cat out)"
	bulkhead rm -f web-2 other
	expect_nothing_left
	[ -z "$(find store -name '*unnamed*')" ] || fail "memory is left"
}

# A program that waits for its clones finds out which one it is, before it goes
# on, whoever it runs as and whatever its root is.
test_told()
{
	make_root
	start app --read-only --user user --workdir / root sh -c '
		trap "echo signalled" USR1
		echo ready
		until [ -e /dev/bulkhead/clone ]; do sleep 0.1; done
		. /dev/bulkhead/clone
		echo "worker $number of $source, $name"
		while :; do sleep 1; done'
	wait_until logs_have app ready || fail "it does not start"
	bulkhead clone --signal USR1 app 2
	expect_status 0
	for number in 1 2; do
		wait_until logs_have app-$number worker ||
			fail "app-$number is not told: $(cat out)"
		[ "$(cat out)" = "signalled
worker $number of app, app-$number" ] || fail "it hears: $(cat out)"
	done
	bulkhead exec app ls /dev/bulkhead
	expect_status 1
	bulkhead logs app
	! grep -q 'signalled\|worker' out || fail "the source is told"
	bulkhead rm -f app app-1
	# A clone's clone, with a name of its own, is told its own facts.
	bulkhead clone --name other app-2
	expect_status 0
	bulkhead exec other cat /dev/bulkhead/clone
	[ "$(cat out)" = "name=other
source=app-2
number=1" ] || fail "it is told: $(cat out)"
	bulkhead rm -f app-2 other
	expect_nothing_left
}

# machine_ids NAME: its first two, in `etc` and `dbus`
machine_ids()
{
	bulkhead exec "$1" sh -c 'cat /etc/machine-id /var/lib/dbus/machine-id'
	expect_ok
	[ "$(wc -l <out)" -eq 2 ] || fail "'$1': not two lines: $(cat out)"
	etc=$(sed -n 1p out) dbus=$(sed -n 2p out)
}

# Each clone is another machine to systemd and D-Bus, before a program of it goes
# on; the host's ID, which a container has been given, stays what it is, and so
# does a container that is restored.
test_machine_id()
{
	local etc dbus first name old=0123456789abcdef0123456789abcdef

	make_root
	mkdir -p root/var/lib/dbus
	echo $old >root/etc/machine-id
	cp root/etc/machine-id root/var/lib/dbus/machine-id
	echo $old >host-id
	start app root sh -c '
		echo ready
		until [ -e /dev/bulkhead/clone ]; do sleep 0.1; done
		cat /etc/machine-id
		exec sleep 1000'
	wait_until logs_have app ready || fail "it does not start"
	bulkhead clone app 2
	expect_status 0
	for name in app-1 app-2; do
		machine_ids "$name"
		[[ $etc =~ ^[0-9a-f]{12}4[0-9a-f]{19}$ ]] ||
			fail "'$name' has '$etc'"
		[ "$etc" = "$dbus" ] || fail "'$name': D-Bus has '$dbus'"
		wait_until logs_have "$name" "^$etc\$" ||
			fail "'$name' has read another one: $(cat out)"
		[ "$name" = app-1 ] || [ "$etc" != "$first" ] || fail "both: $etc"
		first=$etc
	done
	machine_ids app
	[ "$etc $dbus" = "$old $old" ] || fail "the source has '$etc', '$dbus'"
	[ "$(cat root/etc/machine-id)" = $old ] || fail "the image has another"
	bulkhead snapshot app-2 snap
	expect_ok
	bulkhead rm -f app app-1 app-2
	bulkhead restore -d --name app-2 snap
	expect_ok
	machine_ids app-2
	[ "$etc" = "$first" ] || fail "the restored one has '$etc'"
	bulkhead rm -f app-2
	start app -v "$PWD/host-id:/etc/machine-id" root sleep 1000
	bulkhead clone app
	expect_status 0
	machine_ids app-1
	[ "$etc" = $old ] || fail "not the host's: '$etc'"
	[ "$(cat host-id)" = $old ] || fail "the host's is another one"
	bulkhead rm -f app app-1
	expect_nothing_left
}

test_refused()
{
	make_root
	bulkhead clone nobody
	expect_status 1
	expect_error "'nobody': no such instance"
	bulkhead clone
	expect_status 2
	bulkhead clone nobody 0
	expect_status 2
	expect_error "'0': not a number from 1 to"
	bulkhead clone --name x nobody 2
	expect_status 2
	expect_error '--name-prefix'
	start one root sleep 1000
	bulkhead pause one
	bulkhead clone one
	expect_status 1
	expect_error "'one' is paused"
	bulkhead resume one
	bulkhead clone --name one one
	expect_status 1
	expect_error "name 'one' is taken"
	bulkhead clone --network tap=x one 2
	expect_status 1
	expect_error 'one clone alone'
	bulkhead clone --network tap=x one
	expect_status 1
	# Nothing is left of those that could not start, and the source goes on.
	[ "$(ls -A "$BULKHEAD_RUNTIME_DIR")" = one ] || fail "something is left"
	bulkhead exec one true
	expect_ok
	bulkhead kill one
	bulkhead wait one
	bulkhead clone one
	expect_status 1
	expect_error "'one'"
	bulkhead rm one
	expect_nothing_left
}
