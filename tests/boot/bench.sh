# shellcheck shell=bash disable=SC2119,SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead bench startup`: whom it compares, what it prints, and that nothing
# stays behind, also where Docker's daemon takes part.

. "$TOP/tests/boot/run-lib.sh"

mkdir -p tmp
export TMPDIR=$PWD/tmp

runs_of()
{
	sed -nE "s/^$1 +([0-9]+)( +[0-9.]+){6}\$/\1/p" out
}

# json PERL: of $doc, the printed JSON, and %by, its results by name.
json()
{
	perl -MJSON::PP -0777 -ne 'BEGIN { $test = shift }
		$doc = decode_json($_);
		%by = map { $_->{runtime} => $_ } @{$doc->{results}};
		exit !eval $test' "$1" out
}

# only NAME...: a PATH, $PWD/only, as if nothing else were installed that is
# compared. They are programs in Go, mostly, and take seconds to start in the
# lab.
only()
{
	local name

	mkdir only
	for name in timeout "$@"; do
		ln -s "$(command -v "$name")" "only/$name" || skip "no $name"
	done
}

expect_no_traces()
{
	[ -z "$(ls -A "$TMPDIR")" ] || fail "left behind: $(ls -A "$TMPDIR")"
	expect_nothing_left
}

# One round is the same code as twenty.
test_startup()
{
	local name hosts

	make_root
	bulkhead bench startup --runs 1 --only bulkhead-runtime,crun,docker \
		root -- busybox true
	expect_status 0
	expect_silence
	[ "$(runs_of bulkhead)" = 1 ] || fail "bulkhead's line"
	grep -q '^runc  *left out by --only' out || fail "runc takes part"
	for name in bulkhead-runtime crun; do
		# The first one has runc, too, as the host's.
		hosts=(crun)
		[ $name = crun ] || hosts+=(runc)
		if [ "$(id -u)" -eq 0 ] && command -v "${hosts[@]}" >/dev/null; then
			[ "$(runs_of $name)" = 1 ] || fail "$name did not run"
		else
			grep -q "^$name  *n" out || fail "not said: no $name"
		fi
	done
	if command -v docker >/dev/null; then
		expect_out "no daemon at $DOCKER_HOST: start it"
	else
		grep -q '^docker  *not installed' out || fail "docker's line"
	fi
	grep -qE "^  the guest's boot, until its agent +[0-9.]+$" out ||
		fail "no phases"
	expect_no_traces
}

test_json()
{
	make_root
	only
	PATH=$PWD/only bulkhead bench startup --runs 2 --json root -- busybox true
	expect_status 0
	expect_silence
	json '$by{bulkhead}{runs} == 2' || fail "runs"
	json '@{$by{bulkhead}{sorted_ms}} == 2' || fail "times"
	json 'my $b = $by{bulkhead}; $b->{sorted_ms}[0] == $b->{min_ms} &&
		$b->{min_ms} > 5 && $b->{cpu_median_ms} > 0 &&
		$b->{sorted_ms}[1] == $b->{max_ms} &&
		abs(2 * $b->{median_ms} - $b->{min_ms} - $b->{max_ms}) <
			1e-4 * $b->{median_ms}' || fail "figures"
	json '"@{$doc->{command}}" eq "busybox true"' || fail "command"
	json '$by{$_}{skipped} eq "not installed" or die
		for qw(crun runc docker podman); 1' || fail "who is left out"
	# The phases are those of other runs, and add up to a time of the same
	# kind, however unevenly the machine is busy.
	json 'my $sum = 0; $sum += $_->{median_ms}
		for @{$doc->{bulkhead_phases}};
		$sum /= $by{bulkhead}{median_ms}; $sum > 0.05 && $sum < 20' ||
		fail "phases"
	expect_no_traces
}

# A contestant that does not work is left out, with its reason; bulkhead is not.
test_failure()
{
	make_root
	only crun
	PATH=$PWD/only bulkhead bench startup --runs 2 root -- /nonexistent
	expect_status 3
	[ "$(id -u)" -ne 0 ] || grep -q '^crun  *ended with status' out ||
		fail "crun is not left out"
	grep -q '^bulkhead  *ended with status 127: .*/nonexistent' out ||
		fail "no reason"
	expect_error 'status 127'
	bulkhead bench startup --runs 0 root -- true
	expect_status 2
	bulkhead bench startup --only crun,nobody root -- true
	expect_status 2
	bulkhead bench startup root
	expect_status 2
	bulkhead bench nothing
	expect_status 2
	expect_no_traces
}

# has_begun: something runs, or is about to
has_begun()
{
	[ -e "$BULKHEAD_RUNTIME_DIR" ] || [ -n "$(ls -A "$TMPDIR")" ]
}

# Asked to end, it ends what it runs and cleans up.
test_signal()
{
	make_root
	command="bulkhead bench"
	"$BULKHEAD" bench startup --runs 1000 root -- busybox true \
		>out 2>err </dev/null &
	wait_until has_begun || fail "it runs nothing"
	kill -TERM $!
	status=0
	wait $! || status=$?
	expect_status 143
	expect_no_traces
}

. "$TOP/tests/boot/dockerd.sh"

test_docker()
{
	need_root
	command -v dockerd >/dev/null || skip "no dockerd"
	command -v docker >/dev/null || skip "no docker"
	make_root
	start_dockerd
	# With no others beside them, and one round. test_failure has a peer whose
	# command fails.
	only docker sh tar
	PATH=$PWD/only bulkhead bench startup --runs 1 root -- busybox true
	expect_status 0
	expect_silence
	[ "$(runs_of docker)" = 1 ] || fail "docker did not run"
	expect_out "docker: its daemon does the work"
	[ -z "$(docker ps -aq)" ] || fail "left behind: a container"
	[ -z "$(docker images -q)" ] || fail "left behind: an image"
	stop_dockerd
	[ -z "$(docker_cgroups)" ] || fail "left behind: $(docker_cgroups)"
	expect_no_traces
}
