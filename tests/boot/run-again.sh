# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Instances that run again: `start` and `restart`.

. "$TOP/tests/boot/run-lib.sh"

# The next run keeps what `run` was told; its root is again as the image's.
test_start()
{
	make_root
	mkdir data
	start one -v "$PWD/data:/data" -e A=b -w /tmp --hostname box \
		--memory 200m --init root sh -c 'echo run $(cat /data/n /n) $A \
		$(hostname) $PWD; echo x >>/data/n; echo lost >/n; exit 3'
	bulkhead wait one
	bulkhead start one
	expect_status 0
	[ "$(cat out)" = one ] || fail "its name is not printed"
	expect_error one root gone
	bulkhead wait one
	expect_out 3
	bulkhead start -a one
	expect_status 3
	expect_out 'run x x b box /tmp'
	bulkhead logs one
	printf 'run b box /tmp\nrun x b box /tmp\nrun x x b box /tmp\n' |
		diff - out || fail "all runs are in the log"
	[ "$(field one exit_status)" = 3 ] || fail "its status"
	bulkhead start none
	expect_status 1
	expect_error none
	bulkhead rm one
	expect_nothing_left
}

# One that runs; input and a terminal; several at a time.
test_start_streams()
{
	make_root
	start one -i root sh -c 'read x; echo $x; echo end'
	bulkhead start one
	expect_ok
	bulkhead start -a one
	expect_status 125
	expect_error 'bulkhead attach one'
	bulkhead stop -t 0 one
	start two root true
	bulkhead wait two
	command='bulkhead start -i one'
	status=0
	echo typed | timeout -k 5 "$LIMIT" "$BULKHEAD" start -i one >out 2>err ||
		status=$?
	expect_status 0
	printf 'typed\nend\n' | diff - out || fail "what it read"
	bulkhead start one two
	expect_status 0
	printf 'one\ntwo\n' | diff - out || fail "their names"
	echo again | timeout -k 5 "$LIMIT" "$BULKHEAD" attach one >out 2>err ||
		fail "no input in the background"
	expect_out again
	bulkhead wait two
	bulkhead kill one
	bulkhead rm one
	bulkhead rm two
	expect_nothing_left
}

test_restart()
{
	local pid

	make_root
	start one root sh -c 'trap "exit 5" TERM; echo up
		while :; do sleep 0.1; done'
	wait_until logged one up || fail "the command says nothing"
	pid=$(monitor_pid one)
	bulkhead restart -t 100 one
	expect_status 0
	expect_out one
	[ "$(monitor_pid one)" != "$pid" ] || fail "it is the same machine"
	bulkhead exec one true
	expect_ok
	bulkhead kill one
	bulkhead restart one
	expect_status 0
	# A root that is gone: nothing is started, and the rest stays.
	bulkhead kill one
	mv root moved
	bulkhead start one
	expect_status 1
	expect_error root
	mv moved root
	start two --rm root sleep 1000
	bulkhead restart two
	expect_status 1
	expect_error two -- --rm
	bulkhead exec two true
	expect_ok
	bulkhead kill two
	bulkhead rm one
	expect_nothing_left
}
