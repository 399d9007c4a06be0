# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Shared by the measurements: rounds, medians, the table's numbers as JSON.
# The scripts that source it set `top`, `contestants`, `rounds` and `cmd`.
# shellcheck disable=SC2154 # those

# Machines boot, unless a contestant is one that goes on from a template.
export BULKHEAD_TEMPLATES=off

# value "$@": the option that comes next has one
value()
{
	[ $# -gt 1 ] || die "$1 needs a value (see --help)"
}

# rounds "$@": for --rounds
rounds()
{
	value "$@"
	[[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || die "$1 '$2': not a number from 1 on"
	rounds=$2
}

# shellcheck disable=SC2034 # used by the scripts
# only NAME... -- "$@": for --only, whose value is some of NAME, with commas
only()
{
	local known=" " name names

	while [ "$1" != -- ]; do
		known+="$1 "
		shift
	done
	shift
	value "$@"
	IFS=, read -ra names <<<"$2"
	[ ${#names[@]} -gt 0 ] || die "$1 '': known are$known(see --help)"
	for name in "${names[@]}"; do
		[[ $known == *" $name "* ]] ||
			die "$1 '$name': known are$known(see --help)"
	done
	only=$2
}

# shellcheck disable=SC2034 # used by the scripts
bench_names()
{
	if [ -z "${BULKHEAD-}" ]; then
		for BULKHEAD in "$top/bulkhead" "$top/build/bulkhead"; do
			[ -x "$BULKHEAD" ] && break
		done
	fi
	[ -x "$BULKHEAD" ] || die "no monitor at $BULKHEAD: run make"
	BULKHEAD=$(realpath "$BULKHEAD")
	GUEST=$("$top/tests/guest/build")
	KERNEL=${BULKHEAD_TEST_KERNEL:-$("$top/firmware/kernel/build")}
	export BULKHEAD BULKHEAD_TEST_KERNEL=$KERNEL
}

bench_start()
{
	bench_names
	# Guests that run in labs alone need none here.
	if [ -z "${lab-}" ] || [ -n "${native-}${once-}" ]; then
		[ -w /dev/kvm ] || die "/dev/kvm cannot be used here"
	fi
	scratch=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-bench.XXXXXX")
	trap 'rm -rf "$scratch"' EXIT
}

progress()
{
	if [ -t 2 ]; then
		printf '\r\033[K%s' "${1:+bench: $1}" >&2
	elif [ -n "$1" ]; then
		echo "bench: $1" >&2
	fi
}

is_slow()
{
	[ -e /sys/module/kvm_pvm ]
}

default_rounds()
{
	if is_slow; then echo 3; else echo 7; fi
}

host_kind()
{
	if [ -n "${BULKHEAD_LAB-}" ]; then
		echo "the lab (kvm-amd in QEMU TCG)"
	elif is_slow; then
		echo "this machine, KVM that interprets guest kernels (PVM)"
	else
		echo "this machine, hardware KVM"
	fi
}

# rotate N WORD...: the words, from the Nth on, around
rotate()
{
	local n=$1

	shift
	n=$((n % $#))
	printf '%s\n' "${@:n + 1}" "${@:1:n}"
}

# measure NAME OPTION...: runs `cmd` and adds each figure to a file NAME.KEY
measure()
{
	local name=$1 line word user='' system=''

	shift
	line=$("$GUEST/measure" --log "$scratch/log" "$@" -- "${cmd[@]}") ||
		die "$name cannot be measured (status $?, out of memory?)"
	if [[ $line != *first_us* && $line != *run_us* ]]; then
		tail -n 5 "$scratch/log" >&2
		die "$name did not come to its mark: $line"
	fi
	for word in $line; do
		echo "${word#*=}" >>"$scratch/$name.${word%%=*}"
		case $word in
		user_us=*) user=${word#*=} ;;
		sys_us=*) system=${word#*=} ;;
		esac
	done
	echo $((user + system)) >>"$scratch/$name.cpu_us"
}

# in_labs SCRIPT: every contestant in every round by `SCRIPT --once NAME`, in a
# lab of its own. It prints KEY VALUE lines, which become figures of NAME's.
in_labs()
{
	local script=$1 name key value i

	for ((i = 0; i < rounds; i++)); do
		for name in $(rotate "$i" "${contestants[@]}"); do
			progress "lab, round $((i + 1)) of $rounds: $name"
			"$top/tests/lab/run" --memory 2G --timeout 120 -- \
				"$script" --once "$name" >"$scratch/once" ||
				die "$name in the lab: status $?"
			while read -r key value; do
				echo "$value" >>"$scratch/$name.$key"
			done <"$scratch/once"
		done
	done
	progress ''
}

# median NAME KEY: nothing when there is no figure
median()
{
	[ -s "$scratch/$1.$2" ] || return 0
	sort -n "$scratch/$1.$2" | awk '{ v[NR] = $1 } END {
		print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
	}'
}

# ms MICROSECONDS DIGITS
ms()
{
	[ -z "$1" ] || awk -v us="$1" -v d="$2" \
		'BEGIN { printf "%." d "f", us / 1000 }'
}

# The kernel's tracing directory, when it can count KVM's exits.
tracing_open()
{
	local dir

	for dir in /sys/kernel/tracing /sys/kernel/debug/tracing; do
		[ -w "$dir/events/kvm/kvm_userspace_exit/enable" ] &&
			echo "$dir" && return
	done
	return 1
}

# note_line "$@": the script's command line as a document has it, which takes the
# figures again
note_line()
{
	local lab=native

	[ -z "${BULKHEAD_LAB-}" ] || lab=lab
	bench_line=("tests/bench/${0##*/}")
	while [ $# -gt 0 ]; do
		case $1 in
		--json) [ $# -lt 2 ] || shift ;;
		# So the script calls itself in there.
		--native) bench_line+=("--$lab") ;;
		*) bench_line+=("$1") ;;
		esac
		shift
	done
}
note_line "$@"

# begin_figures FILE TITLE: a document of what is measured from now on comes to be
# in FILE, if that is a name; the host is looked at first.
begin_figures()
{
	figures=''
	[ -n "$1" ] || return 0
	# It is to be there whole, or not.
	exec {figures}> >("$BULKHEAD" bench figures --title "$2" --json \
		"${bench_line[@]}" >"$1.part" || { rm -f "$1.part" && false; })
	figures_pid=$!
	sleep 1
}

# end_figures FILE [KEY[/DIVISOR]=FIGURE]...: those of every contestant
end_figures()
{
	local file=$1 name one key

	shift
	[ -n "$figures" ] || return 0
	{
		echo "# $(host_kind)"
		echo "# $rounds rounds; kernel $KERNEL"
		for name in "${contestants[@]}"; do
			for one in "$@"; do
				key=${one%%=*}
				[ -e "$scratch/$name.${key%/*}" ] || continue
				awk -v name="$name" -v figure="${one#*=}" \
					-v by="${key#*/}" 'BEGIN { OFS = "\t" }
					NF { print name, figure, $1 / (by + 0 ? by : 1) }' \
					"$scratch/$name.${key%/*}"
			done
		done
	} >&"$figures"
	exec {figures}>&-
	wait "$figures_pid" || die "no figures for '$file'"
	mv "$file.part" "$file"
	figures=''
}

# lab_file FILE: the lab's beside FILE, which has those of this machine
lab_file()
{
	[ -z "$1" ] || echo "${1%.json}-lab.json"
}
