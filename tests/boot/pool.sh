# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead pool`: machines that wait for a run.

. "$TOP/tests/boot/run-lib.sh"
export BULKHEAD_STORE=$PWD/store BULKHEAD_TEMPLATES=1G

# start_pool N [OPTION-OF-RUN]...: N machines wait when it returns; sets pool.
start_pool()
{
	local n=$1

	shift
	"$BULKHEAD" pool --size "$n" --network none "$@" "${image:-root}" >pool.out 2>pool.err &
	pool=$!
	wait_until has_begun || fail "no machine waits: $(cat pool.err)"
	[ -s pool.out ] || fail "the pool has ended: $(cat pool.err)"
	expect_waiting "$n"
}

has_begun()
{
	[ -s pool.out ] || ! kill -0 "$pool" 2>/dev/null
}

# How many wait.
waiting()
{
	"$BULKHEAD" pool ls >pool.ls || fail "pool ls"
	echo $(($(wc -l <pool.ls) - 1))
}

wait_n()
{
	[ "$(waiting)" -eq "$1" ]
}

expect_waiting()
{
	wait_until wait_n "$1" || fail "$(waiting) machines wait, not $1: $(cat pool.err)"
}

# end_pool STATUS: nothing of it is left.
end_pool()
{
	local status=0

	kill "$pool" 2>/dev/null
	wait "$pool" || status=$?
	[ "$status" -eq "$1" ] || fail "the pool's status is $status: $(cat pool.err)"
	[ -z "$(find store -type s)" ] || fail "a socket is left"
}

# taken ARGUMENT...: a run that takes one; `err` is left empty.
taken()
{
	run_logged ': taken$' "it has taken none" "$@"
}

# untaken ARGUMENT...: one that does not, and runs all the same.
untaken()
{
	run --rm --log-level debug "$@"
	! grep -q ': taken$' err || fail "it has taken one"
	! grep -q ' warn: ' err || fail "a warning"
	: >err
}

# The process that holds the instance, but for its monitor and what keeps it.
supervisor_of()
{
	local pid

	for pid in $(pgrep -f -- "--name $1 "); do
		[ "$(cat "/proc/$pid/comm")" != bulkhead ] || echo "$pid"
	done
}

# The monitor of one that waits.
first_waiting()
{
	"$BULKHEAD" pool | awk 'NR == 2 {print $2}'
}

another_waits()
{
	local now

	now=$(first_waiting)
	[ -n "$now" ] && [ "$now" != "$first" ]
}

# It is the container of the run that takes it in all that a run brings, and so
# with an image; another one waits then, until the pool's end.
test_run()
{
	make_root
	mkdir -p one
	echo text >one/file
	start_pool 1
	# The machine has the root already, and has read its users: what is
	# changed there is seen.
	echo changed >root/new
	echo late:x:1002:1002:late:/:/bin/sh >>root/etc/passwd
	taken --user late --workdir /tmp --env A=B --hostname host root \
		sh -c 'id -un; pwd; echo $A; hostname; cat /etc/hostname /new; exit 3'
	expect_status 3
	expect_out "late
/tmp
B
host
host
changed"
	expect_waiting 1
	untaken --cold root true
	expect_status 0
	# Another shape, as the volume is a device.
	untaken -v "$PWD/one:/one" root cat /one/file
	expect_out text
	command="nice bulkhead run"
	nice -n 5 "$BULKHEAD" run --rm --network none --log-level debug root true 2>err
	! grep -q ': taken$' err || fail "one of another priority was taken"
	command="bulkhead run -i"
	echo input | "$BULKHEAD" run --rm -i --network none root cat >out ||
		fail "cat failed"
	expect_out input
	end_pool 0
	[ ! -s pool.err ] || fail "the pool says: $(cat pool.err)"
	: >err
	expect_nothing_left
}

test_image()
{
	make_root
	make_archive box.tar
	image=box.tar
	start_pool 2
	image=test:1
	taken test:1 two
	expect_out "says two"
	# Its changes are its own.
	taken --hostname three --entrypoint sh test:1 -c \
		'hostname; rm /bin/cat; echo $FROM; od -An -N16 -tx1 /dev/urandom'
	mv out first
	expect_waiting 2
	taken --hostname three --entrypoint sh test:1 -c \
		'hostname; cat /dev/null && echo $FROM; od -An -N16 -tx1 /dev/urandom'
	[ "$(head -n 2 out)" = "three
image" ] || fail "the container: $(cat out)"
	! cmp -s first out || fail "their random numbers are equal"
	# Another container of that image has none that waits.
	untaken --read-only --entrypoint sh test:1 -c 'echo x >/x || echo no'
	expect_out no
	end_pool 0
	expect_nothing_left
}

# Directories that no machine could know of.
test_volumes()
{
	make_root
	mkdir -p one two three
	echo text >one/file
	start_pool 1 -v "$PWD/three:/three"
	taken -v "$PWD/two:/two" -v "$PWD/one:/one" root \
		sh -c 'cat /one/file >/two/copy; mount | grep -c virtiofs; ls /'
	expect_status 0
	[ "$(cat two/copy)" = text ] || fail "it was not written"
	! grep -q three out || fail "it has the pool's directory"
	end_pool 0
	expect_nothing_left
}

# In the background, as any other: its processes end with each other.
test_background()
{
	local monitor

	make_root
	start_pool 2
	start box root sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done'
	start two root sleep 1000
	expect_waiting 2
	bulkhead exec box hostname
	expect_out box
	bulkhead pause box
	expect_status 0
	bulkhead resume box
	expect_status 0
	# They outlive the pool, however that ends.
	kill -KILL "$pool"
	wait "$pool" || true
	wait_until wait_n 0 || fail "machines wait for a pool that is gone"
	bulkhead stop box
	expect_status 0
	bulkhead wait box
	expect_out 5
	# The monitor of a run that was killed is killed.
	monitor=$(monitor_pid two)
	kill -KILL "$(supervisor_of two)"
	wait_until is_gone "$monitor" || fail "its monitor lives on"
	bulkhead rm -f box two
	[ -z "$(find store -type s)" ] || fail "a socket is left"
	expect_nothing_left
}

# A keeper that is stopped delays no run; a machine that ends is replaced; a
# template that goes takes all along.
test_changes()
{
	local keeper

	make_root
	start_pool 1
	first=$(first_waiting)
	keeper=$(parent_of "$first")
	[ "$(ps -o sid= -p "$keeper" | tr -d ' ')" = "$keeper" ] ||
		fail "the terminal's signals reach its keeper"
	kill -STOP "$keeper"
	untaken root true
	expect_status 0
	kill -CONT "$keeper"
	kill -KILL "$first"
	wait_until another_waits || fail "it is not replaced: $(cat pool.err)"
	run --rm --trace boot root true
	expect_status 0
	grep -q '^machine taken' err || fail "the trace does not show it"
	! grep -q 'first KVM_RUN' err || fail "the trace shows a start"
	expect_waiting 1
	"$BULKHEAD" template rm --all
	wait_until is_gone "$pool"
	end_pool 1
	grep -q 'was removed: start the pool anew' pool.err ||
		fail "the pool says: $(cat pool.err)"
	expect_nothing_left
}

group_of()
{
	sed -n 's/^0:://p' "/proc/$1/cgroup"
}

# passt is the machine's, from before it was taken; both are moved to the control
# group of the run.
test_network()
{
	local group=/sys/fs/cgroup/bulkhead-test-$$ passt

	command -v passt >/dev/null || skip "no passt"
	make_root
	start_pool 1 --network user
	(
		! mkdir "$group" 2>/dev/null ||
			echo "$BASHPID" >"$group/cgroup.procs"
		command="bulkhead run --network user"
		"$BULKHEAD" run -d --name box --network user --log-level debug \
			root sleep 1000 2>err
	) || fail "it fails: $(cat err)"
	grep -q ': taken$' err || fail "it has taken none: $(cat err)"
	bulkhead exec box sh -c 'ip route | grep -c default; grep -c eth0 /proc/net/dev'
	expect_out "1
1"
	if [ -d "$group" ]; then
		[ "$(group_of "$(monitor_pid box)")" = "${group#/sys/fs/cgroup}" ] ||
			fail "its monitor is in another group"
		for passt in $(pgrep '^passt'); do
			group_of "$passt"
		done | grep -qx "${group#/sys/fs/cgroup}" ||
			fail "its passt is in another group"
	fi
	bulkhead rm -f box
	expect_status 0
	expect_waiting 1
	"$BULKHEAD" run --rm -p 127.0.0.1:18081:80 --log-level debug root true \
		2>err || fail "it fails: $(cat err)"
	! grep -q ': taken$' err || fail "a machine without its port was taken"
	if [ -d "$group" ]; then
		# One that a start has moved, which ended before it had taken it.
		awk 'NR == 2 { print $2 }' pool.ls >"$group/cgroup.procs"
		"$BULKHEAD" run -d --name box --network user --log-level debug \
			root sleep 1000 2>err || fail "it fails: $(cat err)"
		grep -q ': taken$' err || fail "it has taken none: $(cat err)"
		[ "$(group_of "$(monitor_pid box)")" = "$(group_of $$)" ] ||
			fail "its monitor stays in another's group"
		bulkhead rm -f box
		expect_waiting 1
	fi
	end_pool 0
	: >err
	expect_nothing_left
	[ ! -d "$group" ] || rmdir "$group"
}

# Options that no machine can wait with.
test_options()
{
	make_root
	bulkhead pool --size 0 root
	expect_status 2
	expect_error 'a number from 1 to 64'
	bulkhead pool --size 1 -p 80 root
	expect_status 2
	expect_error 'no machine can wait'
	bulkhead pool grow
	expect_status 2
	expect_error 'give --size first'
	bulkhead pool
	expect_ok
	[ "$(wc -l <out)" -eq 1 ] || fail "some wait"
}

# A machine that has waited is saved as its container.
test_saved()
{
	make_root
	start_pool 1
	start box --hostname box root sh -c 'echo begun >/tmp/x; exec sleep 1000'
	bulkhead exec box sh -c 'until [ -s /tmp/x ]; do usleep 50000; done'
	expect_status 0
	bulkhead snapshot box saved
	expect_status 0
	bulkhead restore -d --name again saved
	expect_status 0
	bulkhead exec again cat /tmp/x
	expect_out begun
	bulkhead rm -f box again
	expect_waiting 1
	end_pool 0
	expect_nothing_left
}
