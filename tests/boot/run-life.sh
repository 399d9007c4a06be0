# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Instances: in the background, seen and ended by other commands, and every way
# in which one can end without having been asked. Nothing may be left.

. "$TOP/tests/boot/run-lib.sh"

test_detach()
{
	make_root
	start one root sh -c 'echo first; echo second >&2; sleep 1000'
	bulkhead ps
	expect_out one
	expect_out Up
	bulkhead exec one sh -c 'echo in; hostname; exit 5'
	expect_status 5
	expect_out in
	expect_out one
	bulkhead logs one
	[ "$(cat out)" = first ] || fail "standard output in the log"
	[ "$(cat err)" = second ] || fail "standard error in the log"
	bulkhead rm one
	expect_status 1
	bulkhead stop -t 0 one
	expect_status 0
	bulkhead ps
	expect_no_out one
	bulkhead ps -a
	expect_out 'Exited (137)'
	bulkhead logs -n 1 one
	expect_status 0
	bulkhead rm one
	expect_status 0
	expect_nothing_left
}

test_exec_fails()
{
	make_root
	start one --rm root sleep 1000
	bulkhead exec one /bin/nothing
	expect_status 127
	bulkhead exec one /etc
	expect_status 126
	bulkhead exec two true
	expect_status 125
	expect_error two
	bulkhead exec -u user -w /tmp -e X=y one sh -c 'id -u; pwd; echo $X'
	printf '1000\n/tmp\ny\n' | diff - out || fail "exec's options"
	bulkhead kill one
	expect_status 0
	expect_nothing_left
}

# has_lines N NAME: NAME's log has as many lines
has_lines()
{
	bulkhead logs "$2"
	[ "$(wc -l <out)" -ge "$1" ]
}

# `exec` starts its command with what the main one was started with.
test_exec_keeps()
{
	local facts='grep -E "^(Groups|NoNewPrivs|CapBnd):" /proc/self/status |
		tr "\\t\\n" "  "; ulimit -n; ulimit -Hn; ulimit -c'

	make_root
	start one --rm --security-opt no-new-privileges --cap-drop chown \
		--group-add 77 --group-add more --ulimit nofile=100:200 \
		--ulimit core=0 root sh -c "$facts; exec sleep 1000"
	wait_until has_lines 3 one || fail "its own facts: $(cat out)"
	mv out command.out
	grep -q 'Groups: .*77 1001 .*NoNewPrivs: 1 100$' command.out ||
		fail "the command's own: $(cat command.out)"
	bulkhead exec one sh -c "$facts"
	expect_ok
	cmp -s out command.out || fail "exec: $(cat out)"
	bulkhead exec -u user one sh -c "$facts"
	expect_ok
	grep -q 'Groups: .*77 .*NoNewPrivs: 1 100$' out ||
		fail "another user's: $(cat out)"
	bulkhead kill one
	expect_nothing_left
}

# A process by OCI's description, of which nothing is the container's own.
test_exec_process()
{
	make_root
	start one --rm --ulimit nofile=100:200 -w /tmp -e KEPT=no root sleep 1000
	cat >process.json <<-'END'
	{"args": ["sh", "-c", "id -u; id -G; pwd; echo $A$KEPT; ulimit -n; cat"],
	 "cwd": "/bin", "env": ["PATH=/bin", "A=file"],
	 "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
	 "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 70, "hard": 80}]}
	END
	status=0
	echo input | timeout -k 5 "$LIMIT" "$BULKHEAD" exec -i \
		--process process.json one >out 2>err || status=$?
	expect_ok
	printf '7\n8 9\n/bin\nfile\n70\ninput\n' | diff - out ||
		fail "not what the file says"
	sed 's/"cwd"/"apparmorProfile": "x", "cwd"/' process.json >refused.json
	bulkhead exec --process refused.json one
	expect_status 125
	expect_error "apparmorProfile: 'x' is not supported"
	cat >ambient.json <<-'END'
	{"args": ["grep", "Cap", "/proc/self/status"], "cwd": "/",
	 "env": ["PATH=/bin"], "user": {"uid": 7, "gid": 8}, "capabilities": {
	  "bounding": ["CAP_CHOWN", "CAP_KILL"], "permitted": ["CAP_KILL"],
	  "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
	  "ambient": ["CAP_KILL"]}}
	END
	bulkhead exec --process ambient.json one
	expect_ok
	printf 'Cap%s:\t00000000000000%s\n' Inh 20 Prm 20 Eff 20 Bnd 21 Amb 20 |
		diff - out || fail "not the capabilities that the file has"
	bulkhead exec --process process.json one true
	expect_status 125
	expect_error 'names the command'
	bulkhead exec --process process.json -u 1 one
	expect_status 125
	expect_error 'says all of the process'
	bulkhead exec --process nowhere.json one
	expect_status 125
	bulkhead kill one
	expect_nothing_left
}

test_wait()
{
	make_root
	# Kept, as the second may take longer to start than the first lives.
	start one root sh -c 'sleep 4; exit 9'
	start two root sh -c 'exit 4'
	bulkhead wait one two
	expect_ok
	[ "$(tr '\n' ' ' <out)" = '9 4 ' ] || fail "exit statuses"
	bulkhead rm one
	bulkhead wait one
	expect_status 1
	start three root sleep 1000
	"$BULKHEAD" wait three >three.status &
	sleep 0.5
	kill -KILL "$(monitor_pid three)"
	wait $!
	[ "$(cat three.status)" -eq 137 ] || fail "of one that was killed"
	bulkhead rm two
	bulkhead rm three
	expect_nothing_left
}

# `attach` passes input on, more than all buffers hold, and signals, until the
# command ends.
test_attach()
{
	local child

	make_root
	start one -i root sh -c 'trap "echo caught >&2; caught=1" USR1
		echo before; dd bs=1 count=6 2>/dev/null
		until [ -n "$caught" ]; do sleep 0.1; done
		head -c 300000 | wc -c; exit 3'
	echo hello | timeout -k 5 "$LIMIT" "$BULKHEAD" attach one \
		>one.out 2>one.err &
	wait_for one.out hello
	read -r child _ <"/proc/$!/task/$!/children"
	kill -USR1 "$child"
	wait_for one.err caught
	head -c 300000 /dev/zero |
		timeout -k 5 "$LIMIT" "$BULKHEAD" attach one >out 2>err
	status=$?
	expect_status 3
	expect_out 300000
	expect_no_out before
	status=0
	wait || status=$?
	bulkhead logs one
	expect_out before
	bulkhead attach one
	expect_status 1
	bulkhead rm one
	expect_nothing_left
}

# attach_pty STEP...: at a terminal.
attach_pty()
{
	status=0
	command="bulkhead attach one, at a terminal"
	timeout -k 5 "$LIMIT" "$GUEST/pty" "$@" -- "$BULKHEAD" attach one \
		>out 2>err || status=$?
}

# Ctrl-P Ctrl-Q leaves it running; a single Ctrl-P is the command's.
test_attach_terminal()
{
	make_root
	start one --rm -it root sh
	attach_pty raw 'type=\r' 'expect=# ' 'type=echo A$((1+1))B\r' \
		'expect=A2B' 'type=\x10\x11' cooked
	expect_status 0
	attach_pty raw 'type=\r' 'expect=# ' \
		'type=echo C$((1+1))D; cat\r' 'expect=C2D' 'type=\x10x\r' \
		'expect=^Px' 'type=\x03' 'expect=# ' 'type=exit 4\r'
	expect_status 4
	expect_nothing_left
}

test_inspect()
{
	make_root
	start one -l color=red -l plain -e A=b --memory 200m --cpus 2 \
		-v "$PWD:/host:ro" root sleep 1000
	bulkhead inspect one
	expect_ok
	perl -MJSON::PP -0777 -ne '
		my ($one, @more) = @{decode_json($_)};
		exit !(!@more && $one->{name} eq "one"
			&& $one->{status} eq "running"
			&& "@{$one->{labels}}" eq "color=red plain"
			&& "@{$one->{spec}{process}{args}}" eq "sleep 1000"
			&& $one->{spec}{linux}{resources}{memory}{limit}
				== 200 << 20
			&& $one->{spec}{linux}{resources}{cpu}{quota} == 200000
			&& grep({ $_->{destination} eq "/host"
				&& grep({ $_ eq "ro" } @{$_->{options}}) }
				@{$one->{spec}{mounts}})
			&& $one->{network} eq "none"
			&& grep({ $_ eq "A=b" } @{$one->{spec}{process}{env}}));
		' out || fail "what it says"
	bulkhead ps -q -f label=color -f label=plain
	expect_out one
	bulkhead ps -q -f label=color=blue
	expect_no_out one
	bulkhead ps -q -f status=exited
	expect_no_out one
	bulkhead ps --format json
	perl -MJSON::PP -0777 -ne 'exit decode_json($_)->{name} ne "one"' out ||
		fail "a JSON object a line"
	bulkhead ps -f odd=1
	expect_status 2
	expect_error odd
	bulkhead stop -t 0 one
	bulkhead ps -q -f exited=137
	expect_out one
	bulkhead rm one
	bulkhead inspect one
	expect_status 1
	expect_nothing_left
}

# TERM reaches the command, which may take its time.
test_stop()
{
	make_root
	start one root sh -c 'trap "echo bye; exit 9" TERM; echo ready
		while :; do sleep 0.1; done'
	wait_until logged one ready || fail "the command says nothing"
	bulkhead stop one
	expect_status 0
	[ "$(field one exit_status)" = 9 ] || fail "status of the command"
	bulkhead logs one
	expect_out bye
	bulkhead rm one
	expect_nothing_left
}

test_logs_follow()
{
	make_root
	start one root sh -c 'for i in 1 2 3 4 5; do echo $i; sleep 0.2; done'
	bulkhead logs -f -t one
	expect_status 0
	[ "$(wc -l <out)" -eq 5 ] || fail "lines"
	grep -qE '^20[0-9-]*T[0-9:.]*Z 5$' out || fail "times"
	bulkhead rm one
}

test_name_taken()
{
	make_root
	start one --rm root sleep 1000
	run --rm --name one root true
	expect_status 125
	expect_error one 'bulkhead stop one'
	bulkhead rm -f one
	expect_status 0
	expect_nothing_left
	start one root true
	bulkhead wait one
	run --rm --name one root true
	expect_status 125
	expect_error one 'bulkhead rm one'
	bulkhead rm one
	expect_nothing_left
}

# A start that fails says why, and leaves neither an instance nor a taken name:
# there is no such program; the monitor cannot start (no tap); no such option.
test_failed_start()
{
	make_root
	run --name one root /bin/nothing
	expect_status 127
	bulkhead run -d --name one --network none root /bin/nothing
	expect_status 127
	expect_error /bin/nothing
	[ ! -s out ] || fail "a name was printed"
	run -d --name one --kernel /nonexistent root true
	expect_status 125
	bulkhead run --name one --network tap=nosuch0 root true
	expect_status 125
	expect_error nosuch0
	bulkhead run -d --name one --network tap=nosuch0 root true
	expect_status 125
	expect_error nosuch0
	! grep -q 'guest:' err || fail "the guest did not say that"
	expect_nothing_left
}

# Nothing is left of a failed start, so its end is looked at while it runs.
test_inspect_reason()
{
	make_root
	start one root sleep 1000
	kill -ABRT "$(monitor_pid one)"
	bulkhead wait one
	bulkhead inspect one
	expect_out 'its monitor was killed by signal 6'
	perl -MJSON::PP -0777 -ne '
		my $time = qr(^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$);
		my ($one) = @{decode_json($_)};
		exit !($one->{created} =~ $time && $one->{started} =~ $time
			&& $one->{finished} =~ $time
			&& $one->{stop_signal} eq "SIGTERM"
			&& "@{$one->{spec}{process}{capabilities}{bounding}}"
				=~ /^CAP_CHOWN /);
		' out || fail "what it says"
	bulkhead rm one
	expect_nothing_left
}

# A signal to `run` is the command's.
test_signal()
{
	make_root
	run_start one --rm root sh -c 'trap "exit 12" INT; echo ready
		while :; do sleep 0.1; done'
	wait_for one.out ready
	kill -INT "$(guest_pid one)"
	guest_wait one
	expect_status 12
	expect_nothing_left
}

# has_file NAME FILE: out is what NAME has in it
has_file()
{
	bulkhead exec "$1" cat "$2"
	[ "$status" -eq 0 ]
}

# `exec -d` does not wait; as with Docker its command goes on by itself.
test_exec_detached()
{
	make_root
	start one --rm root sleep 1000
	bulkhead exec -d one sh -c 'sleep 1; echo finished >/tmp/done; sleep 777'
	expect_status 0
	wait_until has_file one /tmp/done
	expect_out finished
	bulkhead exec one ps
	expect_out 'sleep 777'
	bulkhead exec -dt one sh -c 'test -t 1 && echo yes >/tmp/yes; sleep 778'
	wait_until has_file one /tmp/yes
	expect_out yes
	bulkhead kill one
	expect_nothing_left
}

# A monitor that does nothing any more can still be ended.
test_monitor_hangs()
{
	make_root
	run_start one --rm root sh -c 'echo ready; sleep 1000'
	wait_for one.out ready
	kill -STOP "$(monitor_pid one)"
	bulkhead stop -t 1 one
	expect_status 0
	guest_wait one
	expect_status 137
	expect_error one "ended by 'bulkhead stop'"
	expect_nothing_left
	start one root sleep 1000
	kill -STOP "$(monitor_pid one)"
	bulkhead kill one
	expect_status 0
	[ "$(field one exit_status)" = 137 ] || fail "its status"
	field one error >out
	expect_out "ended by 'bulkhead kill'"
	bulkhead rm one
	expect_nothing_left
}

# PID 1 ignores signals that it has no handler for; a second one ends the
# machine.
test_signal_twice()
{
	make_root
	run_start one --rm root sh -c 'echo ready; exec sleep 1000'
	wait_for one.out ready
	kill -INT "$(guest_pid one)"
	wait_for one.err 'goes on after the signal'
	kill -0 "$(guest_pid one)" || fail "one was enough"
	insist one INT
	guest_wait one
	expect_status 137
	# A shell that nobody can type at says so.
	run_start one --rm -t root sh
	wait_for one.err 'nobody can type at'
	insist one INT
	guest_wait one
	expect_nothing_left
}

# Signals, often enough for two to count, until that is heard.
insist()
{
	local end=$((SECONDS + LIMIT)) pid

	pid=$(guest_pid "$1")
	while [ "$SECONDS" -lt "$end" ] && kill "-$2" "$pid" 2>/dev/null; do
		sleep 0.2
	done
}

# A stopped monitor stands for a guest that hangs.
test_signal_hung()
{
	make_root
	run_start one --rm root sh -c 'trap "exit 9" INT; echo ready
		while :; do sleep 0.1; done'
	wait_for one.out ready
	kill -STOP "$(monitor_pid one)"
	insist one INT
	guest_wait one
	expect_status 137
	expect_nothing_left
}

# blocks_int NAME: it has come so far as to take SIGINT in its own time
blocks_int()
{
	local mask

	mask=$(sed -n 's/^SigBlk:[[:space:]]*//p' \
		"/proc/$(guest_pid "$1")/status" 2>/dev/null)
	((16#${mask:-0} & 2))
}

# unread NAME COMMAND...: `bulkhead COMMAND`, whose output nobody reads, once
# that of instance `one` is more than a pipe takes.
unread()
{
	local name=$1 end=$((SECONDS + LIMIT)) log=$BULKHEAD_RUNTIME_DIR/one/log

	shift
	mkfifo "$name.pipe"
	perl -e 'sleep 1000' <"$name.pipe" &
	reader=$!
	: >"$name.out"
	timeout -k 5 "$LIMIT" "$BULKHEAD" "$@" >"$name.pipe" 2>"$name.err" \
		</dev/null &
	# shellcheck disable=SC2004 # a name, no number
	running[$name]=$!
	wait_until blocks_int "$name" || fail "it takes no signals"
	while [ "$SECONDS" -lt "$end" ]; do
		[ "$(stat -c %s "$log" 2>/dev/null || echo 0)" -lt 65536 ] ||
			return 0
		sleep 0.1
	done
	fail "no output came"
}

test_signal_unread()
{
	make_root
	unread one run --rm --network none --name one root yes
	insist one TERM
	guest_wait one
	kill "$reader"
	expect_status 137
	expect_nothing_left
}

test_attach_unread()
{
	make_root
	start one root yes
	unread look attach one
	insist look INT
	guest_wait look
	kill "$reader"
	expect_status 1
	grep -q "'one' goes on" err || fail "attach does not say so"
	bulkhead kill one
	expect_status 0
	bulkhead rm one
	expect_nothing_left
}

# Before there is a command a signal ends the start.
test_signal_early()
{
	make_root
	run_start one --rm root sleep 1000
	wait_until blocks_int one || fail "it takes no signals"
	kill -INT "$(guest_pid one)"
	guest_wait one
	[ "$status" -eq 130 ] || fail "status $status"
	expect_nothing_left
}

test_monitor_killed()
{
	make_root
	run_start one --rm root sh -c 'echo ready; sleep 1000'
	wait_for one.out ready
	kill -KILL "$(monitor_pid one)"
	guest_wait one
	expect_status 137
	expect_error one 'signal 9'
	expect_nothing_left
}

# The process that cleans up behind NAME's supervisor.
keeper_pid()
{
	local pid supervisor

	supervisor=$(parent_of "$(monitor_pid "$1")")
	for pid in $(our_processes); do
		[ "$(parent_of "$pid")" = "$supervisor" ] &&
			grep -qx bulkhead-keep "/proc/$pid/comm" && echo "$pid"
	done
}

test_run_killed()
{
	make_root
	run_start one --rm root sh -c 'echo ready; sleep 1000'
	wait_for one.out ready
	kill -KILL "$(guest_pid one)"
	guest_wait one
	expect_status 137
	expect_swept
}

# When all of an instance's processes are killed, the next command cleans up.
test_all_killed()
{
	local pid

	make_root
	run_start one --rm root sh -c 'echo ready; sleep 1000'
	wait_for one.out ready
	pid=$(monitor_pid one)
	kill -KILL "$(keeper_pid one)"
	kill -KILL "$(guest_pid one)"
	guest_wait one
	expect_status 137
	wait_gone "$pid"
	[ -e "$BULKHEAD_RUNTIME_DIR/one" ] || fail "who has cleaned up?"
	bulkhead ps -a
	expect_no_out one
	expect_nothing_left
}

# The instance goes on when its keeper dies.
test_keeper_killed()
{
	make_root
	run_start one --rm root sh -c 'trap "exit 3" TERM; echo ready
		while :; do sleep 0.1; done'
	wait_for one.out ready
	kill -KILL "$(keeper_pid one)"
	kill -TERM "$(guest_pid one)"
	guest_wait one
	expect_status 3
	expect_nothing_left
}

test_supervisor_killed()
{
	local pid

	make_root
	start one root sleep 1000
	pid=$(monitor_pid one)
	kill -KILL "$(parent_of "$pid")"
	wait_gone "$pid"
	wait_for "$BULKHEAD_RUNTIME_DIR/one/state.json" '"exited"'
	[ ! -e "$BULKHEAD_RUNTIME_DIR/one/vsock" ] || fail "its socket stays"
	bulkhead ps -a
	expect_out Killed
	bulkhead rm one
	expect_status 0
	expect_nothing_left
}

# The user's terminal goes away, and its command ends with it, whether or not it
# takes notice.
test_hangup()
{
	make_root
	status=0
	command='bulkhead run -it, hung up'
	timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' 'type=cat\r' sleep=200 \
		hangup -- "$BULKHEAD" run --rm --network none -it root \
		sh -c 'trap "exit 6" HUP; echo "# "; while :; do sleep 0.1; done' \
		>out 2>err || status=$?
	expect_status 6
	expect_nothing_left
	status=0
	timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' hangup \
		-- "$BULKHEAD" run --rm --network none -it root \
		sh -c 'trap "" HUP; echo "# "; while :; do sleep 0.1; done' \
		>out 2>err || status=$?
	expect_status 137
	expect_nothing_left
}

# SIGTERM is the command's, as SIGINT and SIGHUP are above.
test_terminated()
{
	make_root
	run_start one --rm root sh -c "trap 'exit 4' TERM; echo ready
		while :; do sleep 0.1; done"
	wait_for one.out ready
	kill -TERM "$(guest_pid one)"
	guest_wait one
	expect_status 4
	expect_nothing_left
}

# A container that may reboot ends itself with it, as under Docker.
test_reboot()
{
	make_root
	run --rm --privileged root reboot -f
	expect_status 129
	run --rm --privileged root poweroff -f
	expect_status 130
	run --rm root reboot -f
	expect_status 1
	expect_nothing_left
}

# Memory that cannot be had, and memory that is taken back.
test_memory_gone()
{
	make_root
	command='bulkhead run, address space limited'
	status=0
	(ulimit -v 400000 && exec timeout -k 5 "$LIMIT" "$BULKHEAD" run --rm \
		--network none root true) >out 2>err || status=$?
	expect_status 125
	grep -q -- --memory err || fail "no word of what to do"
	expect_nothing_left
	in_lab || return 0
	mkdir cgroups
	busybox mount -t cgroup2 none cgroups || fail "no control groups"
	echo +memory >cgroups/cgroup.subtree_control || fail "no controller"
	mkdir cgroups/small
	echo 80M >cgroups/small/memory.max
	status=0
	(echo $BASHPID >cgroups/small/cgroup.procs &&
		exec timeout -k 5 "$LIMIT" "$BULKHEAD" run --rm \
			--network none root \
			sh -c 'head -c 200000000 /dev/zero >/x') >out 2>err || status=$?
	wait_until rmdir cgroups/small 2>/dev/null || fail "processes are left"
	echo -memory >cgroups/cgroup.subtree_control
	busybox umount cgroups
	expect_status 137
	expect_error 'signal 9'
	expect_nothing_left
}

test_panic()
{
	local memory=64m

	# Debian's kernel ends at 62 MiB.
	[ "$BULKHEAD_KERNEL" != distro ] || memory=96m
	make_root
	run --rm --privileged --memory "$memory" root \
		sh -c 'echo 2 >/proc/sys/vm/panic_on_oom; tail /dev/zero'
	expect_status 125
	grep -q crashed err || fail "no word of a crash"
	expect_nothing_left
}

# Unpacking an image stops halfway.
test_store_full()
{
	need_root
	make_root
	make_archive image.tar
	mkdir small
	busybox mount -t tmpfs -o size=400k none small || skip "no tmpfs"
	export BULKHEAD_STORE=$PWD/small/store
	run --rm image.tar
	find small -type f >left
	busybox umount small
	expect_status 125
	expect_error image.tar "left on the store's disk"
	! grep -q busybox left || fail "left behind: $(cat left)"
	expect_nothing_left
}

# The instance's directory is on a file system without room.
test_disk_full()
{
	need_root
	make_root
	mkdir small
	# mount(8) would leave files in /run.
	busybox mount -t tmpfs -o size=64k none small || skip "no tmpfs"
	export BULKHEAD_RUNTIME_DIR=$PWD/small/instances
	run --rm root head -c 1000000 /dev/zero
	[ "$status" -eq 0 ] || { busybox umount small; fail "status $status"; }
	[ "$(stat -c %s out)" -eq 1000000 ] || { busybox umount small; fail "output"; }
	head -c 64k /dev/zero >small/fill 2>/dev/null
	run --rm root true
	busybox umount small
	expect_status 125
	grep -q 'No space' err || fail "the reason"
	grep -q "$PWD/small/instances" err || fail "the path"
	grep -q BULKHEAD_RUNTIME_DIR err || fail "the setting"
}
