# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Commands that tell of a running instance: its processes, what it uses.

. "$TOP/tests/boot/run-lib.sh"

# The container's numbers and names; neither the agent nor kernel threads.
test_top()
{
	make_root
	start one --rm root sh -c 'sleep 1001 & echo ready; su user -c "sleep 1002"; exit 3'
	wait_until logged one ready || fail "the command says nothing"
	wait_until top_has one "sleep 1002" || fail "it is not listed"
	grep -qE '^UID +PID +PPID +C +STIME +TTY +TIME +CMD$' out ||
		fail "its head"
	grep -qE '^root +1 +0 .* [?] +00:[0-9:]+ +sh -c sleep 1001 &' out ||
		fail "the command"
	grep -qE '^root +[0-9]+ +1 .* sleep 1001$' out || fail "its child"
	grep -qE '^user +[0-9]+ .* sleep 1002$' out || fail "another user's"
	expect_no_out init
	expect_no_out kthreadd
	bulkhead top --json one
	perl -MJSON::PP -0777 -ne '
		my @one = grep { $_->{pid} == 1 } @{decode_json($_)};
		exit !(@one == 1 && $one[0]{ppid} == 0 && $one[0]{uid} == 0
			&& $one[0]{user} eq "root" && $one[0]{tty} eq "?");
		' out || fail "as JSON"
	bulkhead top one -o pid
	expect_status 2
	expect_error 'bulkhead exec one ps'
	bulkhead kill one
	bulkhead top one
	expect_status 1
	expect_error one
	expect_nothing_left
}

# top_has NAME TEXT
top_has()
{
	bulkhead top "$1"
	grep -qF "$2" out
}

# A name that would be obeyed by a terminal, or end a line; a terminal; an exec.
test_top_hostile()
{
	make_root
	start one --rm -t root sh -c 'printf "#!/bin/sh\nsleep 1000\n" >/x
		chmod 755 /x
		exec /x "$(printf "a\033[2Jb\nc")"'
	wait_until top_has one "/x a" || fail "it is not listed"
	expect_out '/x a?[2Jb?c'
	grep -q 'pts/0' out || fail "its terminal"
	bulkhead exec -d one sleep 1003
	wait_until top_has one "sleep 1003" || fail "exec is not listed"
	bulkhead kill one
	expect_nothing_left
}

# An idle container costs the host little beyond its guest's RAM.
test_idle_memory()
{
	local kib

	make_root
	start one --rm --memory 256M root sleep 1000
	# shellcheck disable=SC2046 # several
	own_memory $(our_processes)
	bulkhead kill one
	[ "$kib" -gt 50 ] || fail "cannot tell the memory of its processes"
	[ "$kib" -lt 3072 ] || {
		cat mappings
		fail "its processes have $kib KiB of their own"
	}
	expect_nothing_left
}

# The container's figures, and the host's; in a table, as JSON, in place.
test_stats()
{
	make_root
	start one --rm root sh -c 'head -c 20000000 /dev/zero >/x
		sleep 1000 & echo up; while :; do :; done'
	start two --rm root sleep 1000
	wait_until logged one up || fail "the command says nothing"
	bulkhead stats --no-stream
	expect_ok
	grep -qE '^NAME +CPU % +MEM USAGE / LIMIT +MEM % +NET I/O +BLOCK I/O +PIDS +HOST CPU % +HOST RSS +HOST PSS$' out ||
		fail "its head"
	grep -qE '^two +[0-9.]+% +[0-9.]+[KM]iB / [0-9.]+MiB +[0-9.]+% +0B / 0B +[0-9.]+[kMG]?B / [0-9.]+[kMG]?B +1 +[0-9.]+% +[0-9.]+MiB +[0-9.]+MiB$' out ||
		fail "a line"
	bulkhead stats --no-stream --json one
	expect_ok
	perl -MJSON::PP -0777 -ne '
		my ($one, @more) = @{decode_json($_)};
		my ($g, $h) = ($one->{guest}, $one->{host});
		exit !(!@more && $one->{name} eq "one" && $g->{pids} == 2
			&& $g->{cpu_percent} > 20 && $h->{cpu_percent} > 0
			&& $g->{memory} > 20e6 && $g->{memory} < 512 << 20
			&& $g->{memory_limit} <= 512 << 20
			&& $h->{rss} > 20e6 && $h->{pss} <= $h->{rss});
		' out || fail "figures"
	bulkhead stats --no-stream --format json
	[ "$(wc -l <out)" -eq 2 ] || fail "an object a line"
	status=0
	timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=HOST PSS' 'expect=two' \
		'expect=HOST PSS' hangup -- "$BULKHEAD" stats >pty.out 2>pty.err ||
		status=$?
	grep -qF "$(printf '\033[H')" pty.out || fail "not in place"
	# Those that were named end, and so does it.
	"$BULKHEAD" stats two >two.out 2>two.err &
	wait_for two.out two
	bulkhead kill two
	wait $! || fail "status of stats"
	bulkhead stats --no-stream two
	expect_status 1
	expect_error two
	bulkhead kill one
	expect_nothing_left
}
