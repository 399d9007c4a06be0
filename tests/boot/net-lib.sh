# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# A host of the test's own, with one interface (192.0.2.1), a default route and
# a resolver on its loopback, in namespaces; and what passt leaves on it.

# on_own_net FUNCTION: runs it where interfaces, addresses and ports are its
# own, so that two runs of the tests do not meet, and its tap ends with it.
on_own_net()
{
	need_root
	unshare -n true 2>/dev/null || skip "no namespaces"
	unshare -n "$BASH" "$TOP/tests/boot/lib.sh" "${BASH_SOURCE[1]}" "$1"
	exit $?
}

# on_host FUNCTION: runs it on a host as above.
on_host()
{
	local options=(-nm)

	command -v passt >/dev/null || skip "passt is not installed"
	[ "$(id -u)" -eq 0 ] || options+=(--map-root-user)
	unshare "${options[@]}" true 2>/dev/null || skip "no namespaces"
	# A process that was started in a chroot can make none.
	unshare "${options[@]}" unshare -U true 2>/dev/null ||
		skip "no user namespaces, which passt needs"
	unshare "${options[@]}" "$BASH" "$TOP/tests/boot/lib.sh" \
		"${BASH_SOURCE[1]}" "$1"
	exit $?
}

make_host()
{
	{
		ip link set lo up &&
			ip link add bht0 type veth peer name bht1 &&
			ip link set bht1 up && ip link set bht0 up &&
			ip address add 192.0.2.1/24 dev bht0 &&
			ip route add default via 192.0.2.2 dev bht0 &&
			ip route add unreachable 10.0.2.0/24
	} >ip.out 2>&1 || skip "no network can be made: $(tail -n 1 ip.out)"
	echo nameserver 127.0.0.1 >resolv.conf
	busybox mount -o bind resolv.conf /etc/resolv.conf ||
		skip "/etc/resolv.conf cannot be replaced"
}

# passts TEXT: processes of passt on this host that have TEXT on their command
# line.
passts()
{
	local dir name

	for dir in /proc/[0-9]*; do
		{ read -r name <"$dir/comm"; } 2>/dev/null || continue
		[[ $name == passt* ]] &&
			[ "$dir/ns/net" -ef /proc/self/ns/net ] &&
			tr '\0' ' ' <"$dir/cmdline" | grep -q " $1 " &&
			echo "${dir#/proc/}"
	done 2>/dev/null
	return 0
}

has_no_passts()
{
	[ -z "$(passts "$1")" ]
}

no_passts()
{
	wait_until has_no_passts "$1" || fail "passt still runs"
}
