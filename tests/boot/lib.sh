#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Shared by the integration tests. Run by tests/run as `lib.sh FILE FUNCTION`
# in a scratch directory, with BULKHEAD, GUEST, KERNEL and TOP in the
# environment. A test boots, then states what it expects; the first unmet
# expectation ends it and shows what the last boot said.

set -u
status=''
command=''
# shellcheck disable=SC2034 # for the tests
BZIMAGE=${KERNEL%/*}/bzImage
# Seconds for one boot, and for whatever a test waits for: what takes so long
# hangs. No measure of speed: machines differ by a factor of three, and have
# other things to do.
LIMIT=600

# ---- the end of a test

fail()
{
	echo "FAILED: $*"
	if [ -n "$command" ]; then
		echo "command: $command"
		echo "status: $status"
	fi
	for f in out err; do
		[ ! -s "$f" ] || { echo "--- $f" && tail -c 3000 "$f"; }
	done
	stop_all
	exit 1
}

skip()
{
	stop_all
	echo "$*"
	exit 77
}

# ---- what kind of host this is

in_lab()
{
	[ -n "${BULKHEAD_LAB-}" ]
}

# Kernel code of guests is interpreted here: a boot takes seconds.
is_slow()
{
	[ -e /sys/module/kvm_pvm ]
}

need_root()
{
	[ "$(id -u)" -eq 0 ] || skip "needs root"
}

# need_distro: exports BULKHEAD_DISTRO, Debian's kernel, which tests/lab/prepare
# has fetched.
need_distro()
{
	local cache=${BULKHEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead}
	local dir

	for dir in "$cache"/distro-*/boot; do
		BULKHEAD_DISTRO=${dir%/boot}
	done
	[ -e "$BULKHEAD_DISTRO/boot" ] ||
		skip "no kernel of Debian's: firmware/kernel/distro fetches it"
	export BULKHEAD_DISTRO
}

# ---- boots

# boot OPTION...: to its end, input from /dev/null; sets status, out, err.
boot()
{
	command="bulkhead boot $*"
	status=0
	timeout -k 5 "$LIMIT" "$BULKHEAD" boot "$@" >out 2>err </dev/null ||
		status=$?
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
}

# guest ACTIONS [OPTION]...: boots the test guest's initrd.
guest()
{
	local actions=$1

	shift
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--append "test=$actions" "$@"
}

# guest_start NAME ACTIONS [OPTION]...: the same in the background, output in
# NAME.out and NAME.err.
declare -A running=()
guest_start()
{
	local name=$1 actions=$2

	shift 2
	command="bulkhead boot ... test=$actions $*"
	timeout -k 5 "$LIMIT" "$BULKHEAD" boot --kernel "$KERNEL" \
		--initrd "$GUEST/initrd" --append "test=$actions" "$@" \
		>"$name.out" 2>"$name.err" </dev/null &
	running[$name]=$!
}

# The monitor's own process id (that of timeout's child).
guest_pid()
{
	local children='' of=/proc/${running[$1]}/task/${running[$1]}/children

	while [ -e "$of" ]; do
		read -r children _ 2>/dev/null <"$of"
		[ -z "$children" ] || break
		sleep 0.02
	done
	echo "$children"
}

# guest_wait NAME: its end; sets status, out, err.
guest_wait()
{
	status=0
	wait "${running[$1]}" || status=$?
	unset "running[$1]"
	mv "$1.out" out
	mv "$1.err" err
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
}

stop_all()
{
	local name

	for name in "${!running[@]}"; do
		kill -KILL "$(guest_pid "$name")" "${running[$name]}" \
			2>/dev/null
		tail -c 3000 "$name.out" "$name.err"
	done
	[ -z "${tap-}" ] || "$GUEST/guest" "untap:$tap" >/dev/null
}

# wait_until COMMAND...: until it succeeds. In LIMIT seconds, else 1. PAUSE:
# seconds between two looks.
wait_until()
{
	local end=$((SECONDS + LIMIT))

	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep "${PAUSE:-0.05}"
	done
}

# has_come FILE TEXT [PID]: fails the test where PID has ended without it
has_come()
{
	local alive=1

	[ -z "${3-}" ] || kill -0 "$3" 2>/dev/null || alive=''
	grep -sqF "$2" "$1" || {
		[ -n "$alive" ] || fail "'$2' did not come in $1, and it ended"
		return 1
	}
}

# wait_for FILE TEXT: FILE may be NAME.out or NAME.err of guest_start NAME.
wait_for()
{
	wait_until has_come "$1" "$2" "${running[${1%.*}]-}" ||
		fail "'$2' did not come in $1"
}

# own_memory PID...: sets kib to the memory that these processes have to
# themselves, without that of guests; `mappings` has the parts.
own_memory()
{
	local pid files=()

	for pid; do
		files+=("/proc/$pid/smaps")
	done
	# Mappings of 16 MiB and more are the guest's, with what ends where
	# they start.
	awk '/^[0-9a-f]+-[0-9a-f]+ / {
			last_end = end; split($1, at, "-"); end = at[2]
			held = kib " " what; was = !big && kib
			what = $2 " " $6; big = kib = 0
		}
		$1 == "Size:" {
			big = $2 >= 16384
			if (was && !(big && last_end == at[1])) print held
		}
		/^Private_(Clean|Dirty):/ { kib += $2 }
		END { if (!big && kib) print kib, what }' "${files[@]}" |
		sort -rn >mappings
	# shellcheck disable=SC2034 # for the tests
	kib=$(awk '{ sum += $1 } END { print sum + 0 }' mappings)
}

# ---- expectations

expect_status()
{
	[ "$status" -eq "$1" ] || fail "exit status is $status, not $1"
}

# has_text FILE TEXT. The shell reads what is short: to start a process takes
# longer than that, in the lab 0.1 s.
has_text()
{
	local LC_ALL=C text

	if IFS= read -r -d '' -n 8192 text <"$1" || [ ${#text} -eq 8192 ]; then
		grep -qF -- "$2" "$1"
	else
		[[ $text == *"$2"* ]]
	fi
}

expect_out()
{
	has_text out "$1" || fail "output lacks '$1'"
}

expect_no_out()
{
	! has_text out "$1" || fail "output has '$1'"
}

# The first guest in a lab with a packed kernel tells that this is unpacked.
forget_unpacking()
{
	[ -n "${BULKHEAD_DISTRO:-}" ] || return 0
	grep -v ' data is unpacked, this once, to ' err >rest || :
	mv rest err
}

expect_silence()
{
	forget_unpacking
	[ ! -s err ] || fail "something is on standard error"
}

# One line on standard error, with all of the texts.
expect_error()
{
	local text

	forget_unpacking
	[ "$(wc -l <err)" -eq 1 ] || fail "not one line on standard error"
	for text in "$@"; do
		grep -qiF -- "$text" err || fail "error lacks '$text'"
	done
}

# All went well in the guest.
expect_ok()
{
	expect_status 0
	expect_silence
	expect_no_out FAIL
}

# fact NAME: what the guest said of it.
fact()
{
	sed -n "s/^fact $1 \([^[:space:]]*\).*/\1/p" out | tail -n 1
}

if [ $# -eq 2 ] && [ "${BASH_SOURCE[0]}" = "$0" ]; then
	# shellcheck disable=SC1090 # the tests
	. "$1"
	"$2"
	stop_all
	exit 0
fi
