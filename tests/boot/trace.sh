# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# --trace boot: each kind of start has all of its phases, in their order.

. "$TOP/tests/boot/run-lib.sh"
export BULKHEAD_STORE=$PWD/store BULKHEAD_TEMPLATES=1G

MACHINE_COLD='RAM mapped
RAM registered
kernel loaded
devices opened
vCPUs created
devices attached
firmware written
sandbox entered
first KVM_RUN'
MACHINE_RESTORED='RAM mapped
/dev/kvm opened
VM created
RAM registered
devices opened
vCPUs created
devices attached
vCPUs loaded
sandbox entered
devices loaded
first KVM_RUN'

# phases PROCESS: the names of its phases in `err`
phases()
{
	sed -nE "s/ +[0-9]+ +[0-9]+  ($1)\$//p" err
}

# expect_phases PROCESS TEXT: in this order and no others, but for two that depend
# on the guest
expect_phases()
{
	local found

	found=$(phases "$1" | grep -vE '^first (exit|console output)$')
	[ "$found" = "$2" ] || fail "$1: ${found//$'\n'/, }"
}

# Times only grow, and each phase took what lies between it and the one before.
expect_times()
{
	perl -ne 'next unless / (\d+) +(\d+)  (supervisor|monitor|agent)$/;
		die "not at 0: $_" if !$n++ && $1 != 0;
		die "after $before: $_" if $1 != $before + $2;
		$before = $1; END { exit !$n }' err || fail "the times"
}

# expect_command BEFORE AFTER: a container's, as its supervisor sees it; lines of
# its root, and of how its command is started
expect_command()
{
	expect_times
	expect_phases 'supervisor|agent' "exec
options read
$1
instance made
keeper started
monitor forked
monitor recorded
vsock connected
agent greeted
$2
STARTED
first output
EXIT
end"
}

CONFIGURED='CONFIGURE sent
START sent
CONFIGURE done'

# Cold, the one that makes the template, and warm.
test_run()
{
	local kvm=$'/dev/kvm opened\nVM created'

	make_root
	run --cold --rm --trace boot root sh -c 'echo one; exit 3'
	expect_status 3
	expect_out one
	expect_command $'root ready\ninitrd made' "$CONFIGURED"
	expect_phases monitor "process ready
$kvm
$MACHINE_COLD
monitor gone"
	run --rm --trace boot root echo two
	expect_status 0
	expect_command $'root ready\ninitrd made' "template saved
$CONFIGURED"
	run --rm --trace boot root echo three
	expect_status 0
	expect_out three
	expect_command $'root ready\nsnapshot opened' "$CONFIGURED"
	expect_phases monitor "process ready
$MACHINE_RESTORED
monitor gone"
	grep -q '^first exit ' err || fail "no exit"
	! grep -vE '  (process|supervisor|monitor|agent)$' err ||
		fail "other messages"
	expect_nothing_left
}

# A container that goes on.
test_instance()
{
	make_root
	start web root sh -c 'while :; do echo tick; usleep 100000; done'
	bulkhead snapshot web saved
	expect_status 0
	bulkhead rm -f web
	command="bulkhead restore saved"
	status=0
	"$BULKHEAD" restore --rm --name again --trace boot saved >out 2>err &
	wait_until grep -qs tick out || fail "it does not go on"
	"$BULKHEAD" stop -t 0 again >stop.out 2>&1 || fail "$(cat stop.out)"
	wait $! || status=$?
	expect_command $'snapshot opened\nroot ready' 'ATTACH sent'
	expect_phases monitor "process ready
$MACHINE_RESTORED
monitor gone"
	expect_nothing_left
}

# Clones: what they have in common is in each one's.
test_clone()
{
	local name

	make_root
	start app root sleep 1000
	bulkhead clone --trace boot app 2
	expect_status 0
	[ "$(cat out)" = $'app-1\napp-2' ] || fail "its output: $(cat out)"
	[ "$(grep -c ':$' err)" -eq 2 ] || fail "not two traces: $(cat err)"
	mv err both
	for name in app-1 app-2; do
		awk -v name="$name:" '/:$/ { here = $0 == name } here' both >err
		expect_times
		expect_phases 'supervisor|agent' "exec
options read
source saved
snapshot opened
clone forked
root ready
instance made
keeper started
monitor forked
monitor recorded
vsock connected
agent greeted
ATTACH sent
STARTED
end"
		expect_phases monitor "process ready
$MACHINE_RESTORED"
	done
	bulkhead rm -f app app-1 app-2
	expect_nothing_left
}

# A machine of `boot`: it has one process.
test_machine()
{
	local kvm=$'/dev/kvm opened\nVM created'

	guest_start vm ticks:2000:100 --control ./control --trace boot
	wait_for vm.out 'tick 2'
	command="bulkhead snapshot"
	"$BULKHEAD" snapshot ./control snap || fail "no snapshot"
	kill "$(guest_pid vm)"
	guest_wait vm
	expect_times
	expect_phases monitor "exec
options read
$kvm
$MACHINE_COLD
end"
	grep -q '^first console output ' err || fail "no console"
	command="bulkhead restore"
	timeout -k 5 "$LIMIT" "$BULKHEAD" restore --trace boot --json snap \
		>vm.out 2>vm.err </dev/null &
	running[vm]=$!
	wait_for vm.out tick
	kill "$(guest_pid vm)"
	guest_wait vm
	perl -MJSON::PP -0ne 'printf "%-22s %d %d  %s\n",
		@$_{"phase", "at_us", "took_us", "process"}
		for @{decode_json($_)->{trace}}' err >table || fail "no JSON"
	mv table err
	expect_times
	expect_phases monitor "exec
options read
snapshot opened
$MACHINE_RESTORED
end"
}

# A mistake is one line, and nothing is started.
test_mistakes()
{
	local args

	make_root
	for args in 'run --trace exits root' 'restore --trace exits root' \
		'clone --trace exits root' 'boot --trace exits'; do
		# shellcheck disable=SC2086 # words
		bulkhead $args
		expect_error "--trace 'exits': not known; there is boot"
		[ "$status" -ne 0 ] || fail "it was taken"
	done
	for args in run restore; do
		bulkhead "$args" -d --trace boot root
		expect_error '--trace: not together with --detach'
		[ "$status" -ne 0 ] || fail "it was taken"
	done
	expect_nothing_left
}
