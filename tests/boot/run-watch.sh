# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# What is told of an instance that runs: its processes, what it uses.

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
