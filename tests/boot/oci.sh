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

# In the steps that engines take.
test_steps()
{
	local pid

	make_bundle '$c->{process}{args} = ["sh", "-c",
		"trap \"echo term; exit 5\" TERM; echo up; while :; do sleep 1; done"];'
	command="bulkhead-runtime create"
	"$RUNTIME" --root "$PWD/state" --host-runtime "$HOST" create --bundle one --pid-file "$PWD/pid" c1 \
		>vm.out 2>vm.err </dev/null || fail "create: $(cat vm.err)"
	pid=$(cat pid)
	oci state c1
	[ "$(NAME=status field)" = created ] || fail "not created"
	[ "$(NAME=pid field)" = "$pid" ] || fail "another pid"
	[ "$(NAME=bundle field)" = "$PWD/one" ] || fail "another bundle"
	oci exec c1 true
	[ "$status" -ne 0 ] || fail "exec before start"
	oci start c1
	expect_status 0
	wait_for vm.out up
	oci exec -e A=b c1 sh -c 'echo $A; cat /proc/1/comm; exit 3'
	expect_status 3
	grep -qx b out || fail "no variable"
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
