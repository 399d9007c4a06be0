# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# bulkhead-runtime as engines call it, with crun, which starts in a tenth of
# runc's time in the lab.

. "$TOP/tests/boot/run-lib.sh"

RUNTIME=${BULKHEAD}-runtime
HOST=$(command -v crun) || skip "no crun"

# make_bundle PERL: a bundle `one` of what runc writes; PERL changes $c.
make_bundle()
{
	make_root
	mkdir one
	mv root one/rootfs
	perl -MJSON::PP -0777 -ne 'BEGIN { $code = pop }
		our $c = decode_json($_); $c->{root} = {path => "rootfs"};
		$c->{process}{terminal} = JSON::PP::false;
		eval $code; die $@ if $@; print encode_json($c)' \
		"$TOP/tests/fuzz/corpus/spec/runc.json" "$*" >one/config.json
}

# oci ARGUMENT...: its status in $status, output in out and err
oci()
{
	command="bulkhead-runtime $*"
	status=0
	timeout -k 5 "$LIMIT" "$RUNTIME" --root "$PWD/state" \
		--host-runtime "$HOST" --log log --log-format json "$@" >out 2>err </dev/null || status=$?
}

expect_none_left()
{
	oci list -q
	[ -z "$(cat out)" ] || fail "container stays: $(cat out)"
	rm -rf state/@host
	[ -z "$(ls -A state)" ] || fail "directory stays: $(ls -A state)"
}

test_run()
{
	make_bundle '$c->{process}{args} = ["sh", "-c",
		"cat /proc/version; echo err >&2; touch /made; ls -a /dev; exit 7"];'
	oci run --bundle one c1
	expect_status 7
	grep -q 'Linux version' out || fail "no output"
	grep -q '^err$' err || fail "no standard error"
	[ -e one/rootfs/made ] || fail "what it wrote is not in its root"
	! grep -q '^[.]bulkhead' out || fail "the guest sees the monitor's files"
	expect_none_left
}

# phases FILE: the names of a trace's phases that are not the monitor's, each
# with its process
phases()
{
	sed -nE 's/ +[0-9]+ +[0-9]+  (runtime|supervisor|agent)$/: \1/p' "$1"
}

# Where the time of a start goes, through the processes of both runtimes: `run`
# says it, or `delete`, in a file to which all of an engine's containers go.
test_trace()
{
	local machine='initrd made: supervisor
keeper started: supervisor
monitor forked: supervisor
monitor recorded: supervisor
vsock connected: supervisor
agent greeted: agent
CONFIGURE sent: supervisor
START sent: supervisor
CONFIGURE done: agent
STARTED: agent
first output: agent
EXIT: agent
end: supervisor'

	make_bundle '$c->{process}{args} = ["echo", "up"];'
	oci --cold --trace boot run --bundle one c1
	expect_status 0
	grep -qx c1: err || fail "no trace: $(cat err)"
	[ "$(phases err)" = "exec: runtime
options read: runtime
bundle written: runtime
init executed: supervisor
$machine" ] || fail "its phases: $(cat err)"
	oci --cold --trace boot=trace create --bundle one c2
	expect_status 0
	oci --trace boot=trace start c2
	expect_status 0
	wait_until is_stopped c2 || fail "does not end"
	[ ! -e trace ] || fail "it is there before its end: $(cat trace)"
	oci --trace boot=trace delete c2
	expect_status 0
	[ "$(head -n 1 trace)" = c2: ] || fail "the file: $(cat trace)"
	[ "$(phases trace)" = "exec: runtime
options read: runtime
bundle written: runtime
created: runtime
start called: runtime
init executed: supervisor
$machine" ] || fail "its phases: $(cat trace)"
	grep -q '^first KVM_RUN .* monitor$' trace || fail "no monitor"
	oci --trace boot= run --bundle one c3
	expect_status 1
	expect_error "--trace 'boot=': not known"
	expect_none_left
}

# field NAME: of the state in out
field()
{
	perl -MJSON::PP -0777 -ne 'print decode_json($_)->{$ENV{NAME}}' out
}

is_stopped()
{
	oci state "$1"
	[ "$(NAME=status field)" = stopped ]
}

# start_counter: container c1, which writes numbers to the file `n` of its root.
start_counter()
{
	make_bundle '$c->{process}{args} = ["sh", "-c",
		"i=0; while :; do i=\$((i + 1)); echo \$i >n.part; mv n.part n; usleep 20000; done"];'
	create_and_start
}

# create ID BUNDLE [NAME]: its streams in NAME.out and NAME.err [ID], the number of
# its process in the file pid
create()
{
	local name=${3-$1}

	command="bulkhead-runtime create"
	"$RUNTIME" --root "$PWD/state" --host-runtime "$HOST" create --bundle "$2" \
		--pid-file "$PWD/pid" "$1" >"$name.out" 2>"$name.err" </dev/null ||
		fail "create: $(cat "$name.err")"
}

create_and_start()
{
	create c1 one vm
	oci start c1
	expect_status 0
}

# counts: it goes on from the number in $before
counts()
{
	[ "$(cat one/rootfs/n 2>/dev/null)" != "$before" ]
}

# stands_still: it is the same after a while, in which it would have changed.
stands_still()
{
	before=$(cat one/rootfs/n 2>/dev/null)
	sleep 1
	[ "$(cat one/rootfs/n 2>/dev/null)" = "$before" ]
}

# The machine stands still, whatever the version of control groups, at any time
# after `start`; and what is left of a paused one is nothing.
test_pause()
{
	start_counter
	oci pause c1
	expect_status 0
	oci state c1
	[ "$(NAME=status field)" = paused ] || fail "its state: $(cat out)"
	stands_still || fail "it goes on"
	oci exec c1 true
	grep -q 'cannot exec in a paused container' err || fail "exec: $(cat err)"
	oci pause c1
	expect_status 1
	oci resume c1
	expect_status 0
	wait_until counts || fail "it does not go on"
	oci exec c1 true
	expect_status 0
	oci resume c1
	expect_status 1
	# A signal that the process that stands for it cannot catch.
	oci kill c1 STOP
	expect_status 0
	wait_until stands_still || fail "SIGSTOP does not stop it"
	oci kill c1 CONT
	expect_status 0
	wait_until counts || fail "SIGCONT does not"
	oci pause c1
	expect_status 0
	oci kill c1 KILL
	expect_status 0
	wait_until is_stopped c1 || fail "a paused one does not end"
	oci resume c1
	expect_status 1
	oci delete c1
	expect_status 0
	create_and_start
	oci pause c1
	expect_status 0
	oci delete --force c1
	expect_status 0
	wait_gone "$(cat pid)"
	expect_none_left
}

memory_group()
{
	find /sys/fs/cgroup -type d -path "*/bulkhead-test-$BULKHEAD_TEST_RUN/oom" \
		\( -path '*/memory/*' -o -exec test -e '{}/memory.events' \; \) -print
}

# Engines look at the control group on the host to know that memory ran out. A
# small group in the guest is full soon, and nothing else of the guest's waits.
test_out_of_memory()
{
	make_bundle '$c->{process}{args} = ["sh", "-c",
		"mkdir small && echo 0 >small/cgroup.procs && " .
		"echo +memory >cgroup.subtree_control && echo 16M >small/memory.max && " .
		"awk \"BEGIN { while (1) a[i++] = i }\"; echo \$?"];
		$c->{process}{cwd} = "/sys/fs/cgroup";
		for (grep { $_->{type} =~ /^cgroup/ } @{$c->{mounts}}) {
			$_->{options} = [grep { $_ ne "ro" } @{$_->{options}}];
		}
		$c->{linux}{cgroupsPath} = "/bulkhead-test-$ENV{BULKHEAD_TEST_RUN}/oom";'
	create_and_start
	is_unified && "$RUNTIME" --root "$PWD/state" events c1 >watched 2>watched.err &
	wait_until is_stopped c1 || fail "does not end"
	grep -qx 137 vm.out || fail "the command: $(cat vm.out vm.err)"
	grep -q 'killed for lack of memory' vm.err || fail "not said: $(cat vm.err)"
	cat "$(memory_group)"/memory.{events,oom_control} >kills 2>/dev/null || :
	grep -qx 'oom_kill 1' kills || fail "the host's kernel has killed none: $(cat kills)"
	! is_unified || wait_until has_event oom || fail "no event: $(cat watched watched.err)"
	oci delete c1
	expect_status 0
	[ -z "$(memory_group)" ] || fail "its group stays"
	expect_none_left
	find /sys/fs/cgroup -depth -type d -name "bulkhead-test-$BULKHEAD_TEST_RUN" -exec rmdir {} +
}

is_unified()
{
	[ -e /sys/fs/cgroup/cgroup.controllers ]
}

# has_event TYPE: one of them in the file `watched`
has_event()
{
	grep -q "^{\"type\":\"$1\",\"id\":\"c1\"" watched
}

# The container's control group on the host has it: in runc's form, whichever of
# the host's runtimes has made it, and until the container ends.
test_events()
{
	local watcher

	is_unified || skip "control groups of version 1"
	make_bundle '$c->{process}{args} = ["sh", "-c", "sleep 1000"];
		$c->{linux}{resources}{memory}{limit} = 256 << 20;
		$c->{linux}{cgroupsPath} = "/bulkhead-test-$ENV{BULKHEAD_TEST_RUN}/events";'
	create_and_start
	oci exec c1 true
	expect_status 0
	oci events --stats c1
	expect_status 0
	perl -MJSON::PP -0777 -ne '$e = decode_json($_); $d = $e->{data};
		exit !($e->{type} eq "stats" && $e->{id} eq "c1" &&
			$d->{cpu}{usage}{total} > 1e6 &&
			$d->{memory}{usage}{usage} > 1 << 20 &&
			$d->{memory}{usage}{limit} == 384 << 20 &&
			$d->{memory}{raw}{anon} > 1 << 20 &&
			$d->{pids}{current} > 0)' out || fail "statistics: $(cat out)"
	oci ps --format json c1
	expect_status 0
	grep -qE "^\[([0-9]+,)*$(cat pid)(,[0-9]+)*\]$" out ||
		fail "not process $(cat pid): $(cat out)"
	oci ps c1 -o pid,comm
	expect_status 0
	head -n 1 out | grep -q '^ *PID COMMAND' || fail "no head: $(cat out)"
	grep -q "^ *$(cat pid) " out || fail "no process: $(cat out)"
	! grep -q '^ *1 ' out || fail "others: $(cat out)"
	oci ps c1 -o comm
	expect_status 1
	grep -q 'no column PID' err || fail "no reason: $(cat err)"
	oci events --interval 5 c1
	expect_status 1
	expect_error "events: --interval '5': give a time as 5s or 250ms"
	# It ends with its reader, not at the event after that.
	timeout 10 "$RUNTIME" --root "$PWD/state" events --interval 1h c1 2>watched.err | true
	[ "${PIPESTATUS[*]}" = '0 0' ] || fail "without a reader: $(cat watched.err)"
	"$RUNTIME" --root "$PWD/state" events --interval 100ms c1 >watched 2>watched.err &
	watcher=$!
	wait_until has_event stats || fail "none: $(cat watched watched.err)"
	oci kill c1 KILL
	expect_status 0
	wait "$watcher" || fail "events: status $?: $(cat watched.err)"
	oci events --stats c1
	expect_status 1
	expect_error "container 'c1' is not running"
	oci delete c1
	expect_status 0
	expect_none_left
	find /sys/fs/cgroup -depth -type d -name "bulkhead-test-$BULKHEAD_TEST_RUN" -exec rmdir {} +
}

# In the steps that engines take.
test_steps()
{
	local pid

	make_bundle '$c->{process}{args} = ["sh", "-c",
		"trap \"echo term; exit 5\" TERM; echo up; while :; do sleep 1; done"];'
	create c1 one vm
	pid=$(cat pid)
	oci state c1
	[ "$(NAME=status field)" = created ] || fail "not created"
	! grep -q annotations out || fail "annotations that it has not: $(cat out)"
	[ "$(NAME=pid field)" = "$pid" ] || fail "another pid"
	[ "$(NAME=bundle field)" = "$PWD/one" ] || fail "another bundle"
	oci exec c1 true
	[ "$status" -ne 0 ] || fail "exec before start"
	oci start c1
	expect_status 0
	# At once: it waits until the guest has its container.
	oci exec -e A=b c1 sh -c 'echo $A; cat /proc/1/comm; exit 3'
	expect_status 3
	grep -qx b out || fail "no variable"
	wait_for vm.out up
	oci exec c1 /nonexistent
	expect_status 127
	oci delete c1
	[ "$status" -ne 0 ] || fail "a running one is deleted"
	oci kill c1 TERM
	expect_status 0
	wait_until is_stopped c1 || fail "does not end"
	grep -qx term vm.out || fail "no signal came: $(cat vm.out)"
	oci kill c1 TERM
	grep -qi 'not running\|no such process' err || fail "kill of the dead: $(cat err)"
	oci delete c1
	expect_status 0
	oci delete c1
	[ "$status" -ne 0 ] || fail "none is deleted"
	perl -pi -e 's/"sh"/"nosuch"/' one/config.json
	oci create --bundle one c1
	expect_status 1
	grep -q 'executable file not found' err || fail "no reason: $(cat err)"
	# The reason is the last line of the log, as engines read it.
	oci create --bundle one c/1
	expect_status 1
	tail -n 1 log | grep -q '^{"level":"error","msg":".*invalid container id' ||
		fail "the log: $(tail -n 1 log)"
	oci delete --force c1
	expect_status 0
	expect_none_left
}

# A container is its maker's: the host's other runtime, which comes to be found
# first when it is installed, does not know it.
test_makers()
{
	local other

	other=$(command -v runc) || skip "no runc"
	make_bundle '$c->{process}{args} = ["sleep", "1000"];'
	create_and_start
	HOST=$other
	oci state c1
	expect_status 0
	[ "$(NAME=status field)" = running ] || fail "not running"
	oci list -q
	[ "$(cat out)" = c1 ] || fail "list: $(cat out)"
	oci create --bundle one c2
	expect_status 0
	oci list -q
	[ "$(sort out | xargs)" = "c1 c2" ] || fail "list of both: $(cat out)"
	[ ! -s err ] || fail "said: $(cat err)"
	oci exec c1 true
	expect_status 0
	oci kill c1 KILL
	expect_status 0
	wait_until is_stopped c1 || fail "does not end"
	oci delete c1
	expect_status 0
	oci delete --force c2
	expect_status 0
	expect_none_left
}

# A user of the host's who may open nothing is the container's root: the monitor
# gets /dev/kvm from the one who starts it.
test_users()
{
	make_bundle 'push @{$c->{linux}{namespaces}}, {type => "user"};
		for (qw(uidMappings gidMappings)) {
			$c->{linux}{$_} = [{containerID => 0, hostID => 200000, size => 2000},
				{containerID => 2000, hostID => 0, size => 1}];
		}
		push @{$c->{mounts}}, {destination => "/data", type => "bind",
			source => "'"$PWD"'/shared", options => ["rbind", "rw"]};
		$c->{process}{args} = ["sh", "-c", "id -u; stat -c %u /data /bin/sh
			touch /data/root; umask 0; mkdir /data/user
			echo up; while [ ! -e /data/end ]; do sleep 0.1; done; exit 3"];'
	mkdir shared
	# One of the host that the namespace has, too.
	chmod 777 shared
	chown -R 200000:200000 one/rootfs
	# Its root has to reach the bundle.
	chmod 755 "$PWD" "$BULKHEAD_TEST_SHARED" "$(dirname "$PWD")"
	create c1 one
	oci start c1
	wait_for c1.out up
	[ "$(xargs <c1.out)" = '0 2000 0 up' ] || fail "other users: $(cat c1.out)"
	[ "$(stat -c %u shared/root)" = 200000 ] || fail "root's file is not that user's"
	oci exec --user 1000 c1 sh -c 'touch /data/user/f; stat -c %u /data/user/f'
	expect_status 0
	[ "$(cat out)" = 1000 ] || fail "in the guest: $(cat out)"
	[ "$(stat -c %u shared/user/f)" = 201000 ] || fail "another user's file"
	touch shared/end
	wait_until is_stopped c1 || fail "c1 does not end"
	oci delete c1
	expect_status 0
	expect_none_left
}

# pod_bundle PERL: a bundle for the pod of `p`, in its namespaces
pod_bundle()
{
	make_bundle '$c->{annotations} = {"io.kubernetes.cri.container-type" => "container",
			"io.kubernetes.cri.sandbox-id" => "p"};
		delete $c->{hostname};
		my %ns = (network => "net", ipc => "ipc", uts => "uts");
		for (@{$c->{linux}{namespaces}}) {
			$_->{path} = "/proc/'"$pid"'/ns/$ns{$_->{type}}" if $ns{$_->{type}};
		}
		push @{$c->{mounts}}, {destination => "/data", type => "bind",
			source => "'"$PWD"'/shared", options => ["rbind", "rw"]};'"$*"
}

# has_ticked SIZE: the file has more than that
has_ticked()
{
	[ "$(stat -c %s shared/ticks)" -gt "$1" ]
}

# has_few ID: processes, in the namespace of that container
has_few()
{
	oci exec "$1" sh -c 'ls /proc | grep -c "^[0-9]"'
	[ "$(cat out)" -lt 8 ]
}

# takes_100 ID STATUS: how a program ends in there that takes 100 MB
takes_100()
{
	oci exec "$1" dd if=/dev/zero of=/dev/null bs=100M count=1
	expect_status "$2"
}

# The limits of c1, which runs in p's machine and has none, change; and those of
# one that is created, before it starts.
pod_limits()
{
	takes_100 c1 0
	oci update --memory 64M --pids-limit 6 c1
	expect_status 0
	takes_100 c1 137
	echo '{"pids": {"limit": -2}}' >bad.json
	oci update --resources bad.json c1
	[ "$status" != 0 ] || fail "a limit of -2 processes"
	oci exec c1 true
	expect_status 0
	oci exec c1 sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait'
	[ "$status" != 0 ] || fail "more processes than it may have"
	oci update --memory 150M --pids-limit -1 c1
	expect_status 0
	takes_100 c1 0
	oci exec c1 sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait'
	expect_status 0
	mv one first
	pod_bundle '$c->{process}{args} = ["sh", "-c",
		"dd if=/dev/zero of=/dev/null bs=100M count=1; echo \$? >/data/status"];'
	command="bulkhead-runtime create c4"
	create c4 one
	oci update --memory 64M c4
	expect_status 0
	oci start c4
	wait_for shared/status 137
	oci delete --force c4
	rm -r one
	mv first one
}

# expect_templates N
expect_templates()
{
	local n

	n=$("$BULKHEAD" template --quiet | wc -l)
	[ "$n" -eq "$1" ] || fail "$n templates, not $1"
}

# says_hello [OPTION...]: a container does, and nobody says anything else
says_hello()
{
	oci "$@" run --bundle one c1
	expect_status 0
	[ "$(cat out)" = "hello yes" ] || fail "$(cat out err)"
}

# The first container makes a template, the second goes on from there. One that
# is damaged keeps none from running.
test_warm()
{
	local dir

	export BULKHEAD_STORE=$PWD/store BULKHEAD_TEMPLATES=1G
	make_bundle '$c->{process}{args} = ["sh", "-c",
		"[ -e /dev/.bulkhead ] || echo hello \$(cat /data/file)"];
		push @{$c->{mounts}}, {type => "bind", source => "data",
			destination => "/data", options => ["rbind", "ro"]};'
	mkdir one/data
	echo yes >one/data/file
	says_hello --cold
	[ ! -e store/templates ] || expect_templates 0
	says_hello
	[ ! -s err ] || fail "$(cat err)"
	expect_templates 1
	says_hello
	[ ! -s err ] || fail "$(cat err)"
	[ -n "$(find store -name working-set -size +0)" ] || fail "it has booted"
	dir=$(echo store/templates/*)
	# Zeros: a guest that cannot go on.
	: >"$dir/memory.zero"
	truncate -s 536870912 "$dir/memory.zero"
	tail -c 4096 "$dir/memory" >>"$dir/memory.zero"
	mv "$dir/memory.zero" "$dir/memory"
	says_hello
	[ "$(grep -c 'no good any more, and removed' err)" -eq 1 ] || fail "$(cat err)"
	expect_templates 0
	perl -MJSON::PP -0777 -i -pe '$c = decode_json($_);
		$c->{annotations}{"bulkhead.cold"} = "hot"; $_ = encode_json($c)' \
		one/config.json
	oci run --bundle one c1
	expect_status 1
	expect_error 'neither true nor false'
	expect_none_left
	! grep -q templates /proc/self/mounts || fail "a mount"
}

# A machine with several containers: each has its own root, processes and end,
# and none of them is left when the first one ends.
test_pod()
{
	local pid ticks

	mkdir shared
	make_bundle '$c->{hostname} = "pod"; $c->{annotations} = {
			"io.kubernetes.cri.container-type" => "sandbox",
			"io.kubernetes.cri.sandbox-memory" => "201326592"};
		$c->{process}{args} = ["sh", "-c",
			"trap \"exit 0\" TERM; echo up; while :; do sleep 1; done"];'
	create p one
	pid=$(cat pid)
	mv one own
	pod_bundle '$c->{process}{args} = ["true"];'
	oci create --bundle one early
	expect_error "pod's sandbox 'p': not running here"
	oci start p
	wait_for p.out up
	rm -r one
	pod_bundle '$c->{process}{args} = ["sh", "-c", q{echo $(hostname) $(ls /proc | grep -c "^[0-9]")
		echo first >/data/f; echo up; while :; do echo >>/data/ticks; sleep 0.2; done}];'
	command="bulkhead-runtime create c1"
	create c1 one
	oci start c1
	wait_for c1.out up
	grep -qx 'pod [1-5]' c1.out || fail "another host name, or other processes: $(cat c1.out)"
	pod_limits
	mv one first
	pod_bundle '$c->{process}{args} = ["sh", "-c", "cat /data/f; exit 3"];'
	oci run --bundle one c2
	expect_status 3
	grep -qx first out || fail "no common volume: $(cat out err)"
	oci exec c1 sh -c 'cat /proc/1/comm; exit 4'
	expect_status 4
	# It stands still, and the machine does not.
	oci pause c1
	expect_status 0
	sleep 0.5
	ticks=$(stat -c %s shared/ticks)
	oci exec p true
	expect_status 0
	[ "$(stat -c %s shared/ticks)" = "$ticks" ] || fail "c1 goes on in its pause"
	oci resume c1
	expect_status 0
	wait_until has_ticked "$ticks" || fail "c1 stands still"
	# With its machine, in any order: it stands still until both go on.
	oci pause p
	expect_status 0
	oci exec c1 true
	expect_error 'cannot exec in a paused container'
	oci pause c1
	expect_status 0
	oci create --bundle first c3
	expect_error "container 'p', in whose machine it would be, is paused"
	oci resume p
	expect_status 0
	ticks=$(stat -c %s shared/ticks)
	sleep 0.5
	[ "$(stat -c %s shared/ticks)" = "$ticks" ] || fail "c1 goes on with its machine"
	oci pause p
	oci resume c1
	expect_status 0
	oci resume p
	expect_status 0
	wait_until has_ticked "$ticks" || fail "c1 stands still with nothing paused"
	# It goes hard, and its process with it; then it comes again.
	oci kill c1 KILL
	wait_until is_stopped c1 || fail "c1 does not end"
	wait_until has_few p || fail "processes stay: $(cat out)"
	oci delete c1
	create c1 first
	oci start c1
	wait_for c1.out up
	oci kill p TERM
	wait_until is_stopped p || fail "p does not end"
	wait_until is_stopped c1 || fail "c1 goes on"
	oci delete c1
	oci delete p
	expect_status 0
	expect_none_left
}
