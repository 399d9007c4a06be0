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
	sed -nE "s/^$1 +([0-9]+) +0( +[0-9.-]+){12}\$/\1/p" out
}

# json PERL: of $doc, the printed JSON, and %by, its results by name.
json()
{
	perl -MJSON::PP -0777 -ne 'BEGIN { $test = shift }
		$doc = decode_json($_);
		%by = map { $_->{runtime} => $_ } @{$doc->{runtimes}};
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

# One round is the same code as a hundred.
test_startup()
{
	local name hosts names=bulkhead

	make_root
	for name in bulkhead-runtime crun; do
		# The first one has runc, too, as the host's.
		hosts=(crun)
		[ $name = crun ] || hosts+=(runc)
		if [ "$(id -u)" -eq 0 ] && command -v "${hosts[@]}" >/dev/null; then
			names+=,$name
		fi
	done
	bulkhead bench startup --runs 1 --only "$names" \
		--csv runs.csv root -- busybox echo hi
	expect_status 0
	expect_silence
	for name in ${names//,/ }; do
		[ "$(runs_of "$name")" = 1 ] || fail "$name did not run"
		grep -qE "^${name//+/\\+},1,0,1(,[0-9.]*){2},[0-9.]+,[0-9.]*(,[0-9.]+){2},[0-9]*.\$" runs.csv ||
			fail "$name is not in the CSV"
	done
	grep -q '^runc  *left out by --only' out || fail "runc takes part"
	for name in "until the guest's first instruction" \
		'the guest, until its PID 1 is there' 'ending the machine'; do
		grep -qE "^  $name +[0-9.]+$" out || fail "no phase: $name"
	done
	expect_no_traces
}

# A driver of the user's, with all of its parts.
test_driver()
{
	make_root
	cat >mine.driver <<-'END'
		title = mine
		needs = any-status
		programs = sh
		environment = MINE={scratch}
		check = [ "$1 $2" = 'busybox true' ]
		version = echo 1.2; echo 3.4
		prepare = echo prepared >"$MINE/file"
		before = echo "$id" >>ids
		command = sh -c 'cat "$MINE/file" && [ "$1" = busybox ] && exit 3' x {command}
		remove = cp "$MINE/file" removed
	END
	bulkhead bench startup --runs 2 --driver mine.driver --only mine \
		--json root -- busybox true
	expect_status 0
	expect_silence
	json '$by{mine}{runs} == 2 && $by{mine}{failed} == 0' || fail "runs"
	json '$by{mine}{version} eq "3.4" && $by{mine}{title} eq "mine"' ||
		fail "what it is"
	json '$by{mine}{samples_ms}{status}[1] == 3' || fail "its status"
	json '$by{mine}{marks_ms}{output}{count} == 2' || fail "its output"
	[ "$(sort -u ids | wc -l) $(wc -l <ids)" = '1 3' ] || fail "before"
	[ "$(cat removed)" = prepared ] || fail "not removed"
	# A check that fails says why.
	sed -i 's/^check.*/check = echo first; echo why; exit 1/' mine.driver
	bulkhead bench startup --driver mine.driver --only mine root true
	expect_status 3
	grep -q '^mine  *why$' out || fail "no reason"
	expect_error 'mine: why'
	echo 'commands = x' >mine.driver
	bulkhead bench startup --driver mine.driver root true
	expect_status 2
	expect_error "mine.driver' line 1"
	expect_no_traces
}

test_json()
{
	make_root
	only chroot
	PATH=$PWD/only bulkhead bench startup --runs 2 --json root -- busybox true
	expect_status 0
	expect_silence
	json '$doc->{schema} eq "bulkhead-bench" && $doc->{version} == 1' ||
		fail "schema"
	json '$by{bulkhead}{runs} == 2 && $by{bulkhead}{failed} == 0' ||
		fail "runs"
	json '@{$by{bulkhead}{samples_ms}{exit}} == 2' || fail "times"
	json 'my $b = $by{bulkhead}{marks_ms}{exit}; $b->{min} > 5 &&
		$by{bulkhead}{cpu_ms}{p50} > 0 &&
		abs(2 * $b->{p50} - $b->{min} - $b->{max}) < 1e-4 * $b->{p50}' ||
		fail "figures"
	json '"@{$doc->{command}}" eq "busybox true"' || fail "command"
	[ -z "${BULKHEAD_LAB-}" ] || json 'my $b = $by{bulkhead}{marks_ms};
		$b->{guest}{count} == 2 && $b->{guest}{min} > 1 &&
		$b->{guest}{max} < $b->{exit}{max}' || fail "guest"
	[ -z "${BULKHEAD_LAB-}" ] || json 'my $s = $by{bulkhead}{samples_ms};
		!grep { !($s->{guest}[$_] < $s->{resident}[$_] &&
			$s->{resident}[$_] < $s->{exit}[$_] &&
			$s->{faults}[$_] > 300) } 0, 1' || fail "resident"
	json '$by{bulkhead}{not_taken}{pid1} =~ /^PID 1 is the guest/' ||
		fail "PID 1"
	json '$by{$_}{skipped} =~ /^not installed|^needs root/ or die
		for qw(crun runc docker podman); 1' || fail "who is left out"
	json '$doc->{host}{cpus} > 0 && $doc->{host}{kernel}' || fail "host"
	# The phases are those of other runs, and add up to a time of the same
	# kind, however unevenly the machine is busy.
	json 'my $sum = 0; $sum += $_->{median_ms}
		for @{$by{bulkhead}{phases}};
		$sum /= $by{bulkhead}{marks_ms}{exit}{p50};
		$sum > 0.05 && $sum < 20' || fail "phases"
	cp out kept.json
	bulkhead bench show kept.json
	expect_status 0
	[ "$(runs_of bulkhead)" = 2 ] || fail "not shown again"
	expect_no_traces
}

# A contestant that does not work is left out, with its reason.
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
	expect_error 'nothing could be measured'
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
	"$BULKHEAD" bench startup --only bulkhead --runs 1000 root -- busybox true \
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
	PATH=$PWD/only bulkhead bench startup --runs 1 --only docker \
		root -- busybox true
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
