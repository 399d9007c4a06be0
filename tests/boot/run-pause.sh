# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Containers of `bulkhead run` that stand still.

. "$TOP/tests/boot/run-lib.sh"

# has_grown FILE BYTES: it has more than that.
has_grown()
{
	[ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -gt "$2" ]
}

# ticking NAME [OPTION]...: a container that writes a byte to a share again and
# again; SIGUSR1 has it say so, SIGTERM ends it with 3.
ticking()
{
	local name=$1

	shift
	mkdir -p shared
	rm -f "shared/$name"
	start "$name" -v "$PWD/shared:/shared" "$@" root sh -c '
		trap "echo told" USR1
		trap "exit 3" TERM
		while :; do
			printf . >>/shared/'"$name"'
			sleep 0.05
		done'
	wait_until has_grown "shared/$name" 0 || fail "'$name' does not tick"
}

# expect_still NAME: it writes nothing more.
expect_still()
{
	local bytes

	sleep 0.3
	bytes=$(stat -c %s "shared/$1")
	sleep 1.5
	! has_grown "shared/$1" "$bytes" || fail "'$1' goes on"
}

expect_going()
{
	wait_until has_grown "shared/$1" "$(stat -c %s "shared/$1")" ||
		fail "'$1' does not go on"
}

# threads NAME: of its monitor.
threads()
{
	local pid

	pid=$(sed -n 's/^  "pid": \([0-9]*\),$/\1/p' \
		"$BULKHEAD_RUNTIME_DIR/$1/state.json")
	set -- "/proc/$pid/task"/*
	echo $#
}

# It stands still and says so; what would wait for it is refused at once.
test_pause()
{
	local before

	make_root
	ticking one
	before=$(threads one)
	bulkhead pause one
	expect_ok
	expect_out one
	expect_still one
	# Only now is there somebody who listens all the time.
	[ "$(threads one)" -eq $((before + 1)) ] ||
		fail "$(threads one) threads, $before before"
	bulkhead ps
	expect_out '(Paused)'
	bulkhead ps -q -f status=paused
	expect_out one
	bulkhead ps -q -f status=running
	expect_no_out one
	bulkhead inspect one
	expect_out '"status": "paused"'
	for what in 'exec one true' 'top one' 'cp one:/etc/passwd x' 'attach one'; do
		# shellcheck disable=SC2086 # words
		bulkhead $what
		[ "$status" -ne 0 ] || fail "$what: it is done"
		expect_error "'one' is paused: 'bulkhead resume one' first"
		[ "$(wc -l <err)" -eq 1 ] || fail "$what: more than a line"
	done
	bulkhead stats --no-stream --json
	expect_ok
	expect_out '"guest": null'
	expect_out '"rss"'
	bulkhead pause one
	expect_status 1
	expect_error "'one' is paused already"
	bulkhead unpause one
	expect_ok
	expect_going one
	bulkhead resume one
	expect_status 1
	expect_error "'one' is not paused"
	bulkhead exec one echo hello
	expect_ok
	expect_out hello
	# A mark that a killed command left is no pause.
	touch "$BULKHEAD_RUNTIME_DIR/one/paused"
	bulkhead exec one true
	expect_error 'is paused'
	bulkhead resume one
	bulkhead exec one true
	expect_ok
	bulkhead rm -f one
	expect_nothing_left
	bulkhead pause one
	expect_status 1
	expect_error 'no such instance'
}

# One that is paused hears of its end, as with Docker, and begins anew unpaused.
test_ends_paused()
{
	make_root
	ticking one
	bulkhead pause one
	bulkhead kill -s USR1 one
	expect_ok
	expect_going one
	wait_until log_has told || fail "no signal: $(cat out)"
	bulkhead pause one
	bulkhead stop one
	expect_ok
	bulkhead wait one
	expect_out 3
	bulkhead pause one
	expect_status 1
	expect_error "'one' does not run"
	bulkhead start one
	expect_status 0
	expect_going one
	bulkhead pause one
	bulkhead restart one
	expect_status 0
	expect_going one
	bulkhead ps
	expect_no_out Paused
	bulkhead pause one
	bulkhead kill one
	expect_ok
	bulkhead wait one
	expect_out 137
	bulkhead rm one
	ticking one
	bulkhead pause one
	bulkhead rm -f one
	expect_ok
	expect_nothing_left
}

log_has()
{
	bulkhead logs one
	grep -q "$1" out
}

# Its supervisor dies: nothing is left of a machine that stands still.
test_supervisor_killed()
{
	local pid

	make_root
	ticking one --rm
	bulkhead pause one
	pid=$(sed -n 's/^  "pid": \([0-9]*\),$/\1/p' \
		"$BULKHEAD_RUNTIME_DIR/one/state.json")
	kill -KILL "$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$pid/status")"
	expect_nothing_left
}
