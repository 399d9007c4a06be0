# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Containers of `bulkhead run` that are saved, and others that go on from that.

. "$TOP/tests/boot/run-lib.sh"

# counting NAME [OPTION]...: a container that counts, beside random numbers, in
# its root, in its output and in a file of a share that it keeps open; SIGTERM
# ends it with 3.
counting()
{
	local name=$1

	shift
	mkdir -p shared
	start "$name" -v "$PWD/shared:/shared" "$@" root sh -c '
		trap "echo told; exit 3" TERM
		exec 3>>/shared/file
		n=0
		while :; do
			n=$((n + 1))
			echo $n >/tmp/next && mv /tmp/next /tmp/n
			echo n $n $(cat /proc/sys/kernel/random/uuid)
			echo $(hostname) $n >&3
			sleep 0.2
		done'
	wait_until logs_have "$name" 'n 5 ' || fail "it does not count: $(cat out)"
}

logs_have()
{
	bulkhead logs "$1"
	grep -q "$2" out
}

# first NAME: the number with which its log begins
first()
{
	"$BULKHEAD" logs "$1" | sed -n '1s/^n \([0-9]*\) .*/\1/p'
}

# expect_counted NAME: no number is missing in its log.
expect_counted()
{
	bulkhead logs "$1"
	awk '$1 == "n" && last && $2 != last + 1 { exit 1 }
		$1 == "n" { last = $2 }' out || fail "'$1' has not counted on: $(cat out)"
}

# Two go on where the first one was, beside it: each under its own name, with
# random numbers and a clock of its own, and each can do what the first one can.
test_goes_on()
{
	local name saved before after clock

	make_root
	counting one
	bulkhead snapshot one snap
	expect_ok
	expect_out 'the guest stood still'
	[ "$(stat -c %a snap/instance.json)" = 600 ] || fail "others can read it"
	bulkhead exec one cat /tmp/n
	expect_ok
	saved=$(cat out)
	sleep 3
	for name in two three; do
		# The share is in use by both, which a warning says.
		bulkhead restore -d --name "$name" snap
		expect_status 0
		[ "$(cat out)" = "$name" ] || fail "its name is not printed"
	done
	for name in two three; do
		wait_until logs_have "$name" "n $((saved + 20)) " ||
			fail "'$name' does not go on: $(cat out)"
		[ "$(first "$name")" -gt 5 ] || fail "'$name' began anew"
		[ "$(first "$name")" -le $((saved + 1)) ] || fail "'$name' lost output"
		expect_counted "$name"
		before=$(date +%s)
		bulkhead exec "$name" sh -c 'hostname; date +%s; echo $HOSTNAME
			cat /etc/hostname; grep -c "$HOSTNAME\$" /etc/hosts
			grep -c one /etc/hosts'
		after=$(date +%s)
		expect_status 1
		[ "$(sed -n '3,$p' out)" = "$name
$name
1
0" ] || fail "its names: $(cat out)"
		[ "$(sed -n 1p out)" = "$name" ] || fail "its host name: $(cat out)"
		clock=$(sed -n 2p out)
		((clock >= before - 1 && clock <= after + 1)) ||
			fail "its clock: $clock, here $before to $after"
		grep -q "^$name $((saved + 5))$" shared/file ||
			fail "'$name' does not write to the share"
	done
	# The first line's may be from before: docs/STARTUP.
	bulkhead logs two
	sed 1d out | cut -d' ' -f3 | sort >two.random
	bulkhead logs three
	sed 1d out | cut -d' ' -f3 | sort >three.random
	[ -z "$(comm -12 two.random three.random)" ] ||
		fail "equal random numbers: $(comm -12 two.random three.random)"
	bulkhead ps
	for name in one two three; do
		expect_out "$name"
	done
	bulkhead inspect two
	expect_out '"status": "running"'
	bulkhead pause two
	expect_ok
	bulkhead resume two
	expect_ok
	bulkhead stop two
	expect_ok
	bulkhead wait two
	expect_out 3
	logs_have two told || fail "it was not told: $(cat out)"
	# The first one goes on, and loses nothing.
	bulkhead exec one cat /tmp/n
	[ "$(cat out)" -gt "$saved" ] || fail "the first one stands still"
	expect_counted one
	# One that was restored can be saved, too.
	bulkhead snapshot --live three again
	expect_ok
	bulkhead rm -f three
	bulkhead restore -d --rm again
	expect_status 0
	name=$(cat out)
	wait_until logs_have "$name" 'n ' || fail "no second time"
	bulkhead rm -f "$name"
	# As what ended it begins anew.
	bulkhead start two
	expect_status 0
	wait_until logs_have two '^n 1 ' || fail "it does not begin anew"
	bulkhead rm -f one two
	expect_nothing_left
}

# In the foreground: output, status and a terminal are the new one's.
test_terminal()
{
	make_root
	start one --rm -it root sh
	bulkhead snapshot one snap
	expect_ok
	bulkhead rm -f one
	status=0
	command="bulkhead restore, at a terminal"
	timeout -k 5 "$LIMIT" "$GUEST/pty" raw 'type=\r' 'expect=# ' \
		'type=echo A$((1+1))B\r' 'expect=A2B' 'type=stty size\r' \
		'expect=24 80' 'type=exit 4\r' -- \
		"$BULKHEAD" restore --rm snap >out 2>err || status=$?
	expect_status 4
	expect_nothing_left
}

# Input from before the save is not lost, and later input comes behind it.
test_input()
{
	make_root
	mkdir shared
	start one -i -v "$PWD/shared:/shared" root sh -c '
		dd bs=1 count=1 2>/dev/null
		touch /shared/ready
		while [ ! -e /shared/go ]; do sleep 0.1; done
		read a; echo had $a
		read b; echo and $b
		exit 5'
	echo before | timeout -k 5 "$LIMIT" "$BULKHEAD" attach one \
		>/dev/null 2>&1 &
	wait_until test -e shared/ready || fail "it has read nothing"
	bulkhead snapshot one snap
	expect_ok
	bulkhead kill one
	wait
	touch shared/go
	status=0
	echo after | timeout -k 5 "$LIMIT" "$BULKHEAD" restore --rm snap >out \
		2>err || status=$?
	expect_status 5
	[ "$(cat out)" = "$(printf 'had efore\nand after')" ] ||
		fail "its output: $(cat out)"
	bulkhead rm one
	expect_nothing_left
}

# A container that started from a template is saved like any other.
test_warm()
{
	export BULKHEAD_STORE=$PWD/store BULKHEAD_TEMPLATES=1G
	make_root
	bulkhead template make --network none root
	expect_status 0
	counting one
	bulkhead snapshot --track one first
	expect_ok
	bulkhead snapshot --base first one snap
	expect_ok
	bulkhead rm -f one
	rm -r first
	bulkhead restore -d --name two snap
	expect_ok
	wait_until logs_have two '^n [0-9][0-9] ' || fail "it does not go on"
	[ "$(first two)" -gt 5 ] || fail "it began anew"
	bulkhead exec two sh -c 'hostname; cat /tmp/n'
	expect_ok
	expect_out two
	bulkhead rm -f two
	expect_nothing_left
}

# Its memory is compressed, and comes as it is touched: it goes on, and so does a
# clone of it.
test_compressed()
{
	local name

	make_root
	counting one
	bulkhead snapshot --live --compress one snap
	expect_ok
	expect_out ', compressed to'
	bulkhead rm -f one
	bulkhead restore -d --name two snap
	expect_status 0
	bulkhead clone two
	expect_status 0
	for name in two two-1; do
		wait_until logs_have "$name" "n $(($(first "$name") + 10)) " ||
			fail "'$name' does not go on: $(cat out)"
		expect_counted "$name"
	done
	bulkhead rm -f two two-1
	expect_nothing_left
}

# A command that pauses, saves or stops an instance waits for another one.
test_one_at_a_time()
{
	make_root
	counting one
	exec 7<"$BULKHEAD_RUNTIME_DIR/one/status"
	flock 7
	"$BULKHEAD" snapshot one snap >snap.out 2>&1 7<&- &
	sleep 1
	[ ! -e snap ] || fail "it was saved while another has the lock"
	"$BULKHEAD" stop one >stop.out 2>&1 7<&- &
	sleep 1
	flock -u 7
	exec 7<&-
	wait
	grep -q '^one$' stop.out || fail "it did not stop: $(cat stop.out)"
	# By SIGTERM, and not by the end of patience.
	bulkhead wait one
	expect_out 3
	bulkhead rm one
	expect_nothing_left
}

test_refused()
{
	make_root
	bulkhead snapshot nobody snap
	expect_status 1
	expect_error "'nobody': no such instance"
	start one root sleep 1000
	bulkhead pause one
	bulkhead snapshot one snap
	expect_status 1
	expect_error "'one' is paused"
	bulkhead resume one
	mkdir there
	bulkhead snapshot one there
	expect_status 1
	expect_error 'is there already'
	bulkhead snapshot one snap
	expect_ok
	bulkhead restore --disk x snap
	expect_status 2
	expect_error "--disk: this is a snapshot of an instance"
	bulkhead restore -d --name one snap
	expect_status 125
	expect_error "name 'one' is taken"
	chown 12345 snap/memory
	bulkhead restore -d snap
	expect_status 125
	expect_error "'snap/memory': user 12345's" 'chown it'
	chown 0 snap/memory
	mv snap/instance.json saved
	mkfifo snap/instance.json
	bulkhead restore -d snap
	expect_status 125
	expect_error 'snap/instance.json'
	mv saved snap/instance.json
	printf x | dd of=snap/state bs=1 seek=200 conv=notrunc 2>/dev/null
	bulkhead restore -d snap
	expect_status 125
	expect_error 'snap/state'
	[ "$(ls -A "$BULKHEAD_RUNTIME_DIR")" = one ] || fail "something is left"
	bulkhead exec one true
	expect_ok
	bulkhead rm -f one
	expect_nothing_left
}
