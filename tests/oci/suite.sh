# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Shared by the scripts here that run the suites of other projects: the
# table of what ended how.

# has_run FILE: 1 and a line where that has no result
has_run()
{
	[ -s "$1" ] || {
		echo "no test of that name has run"
		return 1
	}
}

# print_table PLAIN OURS REASONS [RUNTIME]: files of lines "TEST RESULT", with
# the runtime that the suite is beside (crun) and with ours, and of lines "TEST
# REASON". 1: there is a difference without a reason, or nothing has run.
print_table()
{
	local status=0 same=0 differ=0 test plain ours reason

	touch "$1" "$2"
	has_run "$1" || return
	while read -r test plain; do
		ours=$(awk -v test="$test" \
			'$1 == test { print $2; exit }' "$2")
		reason=$(awk -v test="$test" \
			'$1 == test { sub(/^[^ ]+ +/, ""); print }' "$3")
		if [ "${ours:-none}" = "$plain" ]; then
			same=$((same + 1))
			[ -z "$reason" ] || reason="(not so now: $reason)"
		else
			differ=$((differ + 1))
			[ -n "$reason" ] || {
				reason='NO REASON IS GIVEN'
				status=1
			}
		fi
		printf '%-40s %-5s %-5s %s\n' "$test" "$plain" \
			"${ours:-none}" "$reason"
	done <"$1"
	echo "$same as ${4-crun}, $differ different"
	return "$status"
}
