# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker's daemon with networks: in a network namespace of its own, which takes
# its bridges and packet filters along.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/dockerd.sh"

docker_network=(--ip6tables=false)
docker_root=${ENGINE_ROOT-}

# in_network FUNCTION: runs it, of the test's own file, in a network
# namespace that ends with it.
in_network()
{
	need_root
	command -v dockerd >/dev/null || skip "no dockerd"
	command -v docker >/dev/null || skip "no docker"
	command -v iptables >/dev/null || skip "no iptables"
	unshare -n true 2>/dev/null || skip "no network namespaces"
	! in_lab || load_modules
	unshare -n "$BASH" "$TOP/tests/boot/lib.sh" "${BASH_SOURCE[1]}" "$1"
	exit $?
}

# The lab loads none by itself.
load_modules()
{
	need_distro
	modprobe -d "$BULKHEAD_DISTRO" -S "$(uname -r)" -a br_netfilter dummy \
		ip_set_hash_net ip_vs_rr ipt_REJECT nf_conntrack_netlink nft_chain_nat nft_compat \
		nf_tables vxlan xt_MASQUERADE xt_REDIRECT xt_addrtype \
		xt_comment xt_conntrack xt_mark xt_nat xt_set xt_tcpudp ||
		fail "the lab's modules"
}

# A place outside of Docker's networks, with a name server that knows all names
# as 10.7.7.7, and tells which port has asked.
make_outside()
{
	{
		ip link set lo up && ip link add outside0 type dummy &&
			ip address add 10.9.9.9/32 dev outside0 &&
			ip link set outside0 up
	} 2>ip.out || skip "no network can be made: $(tail -n 1 ip.out)"
	# It ends with this shell, however that ends.
	setpriv --pdeathsig KILL perl "$TOP/tests/boot/names.pl" 10.9.9.9 \
		>names.log 2>&1 &
	wait_for names.log ready
}

# make_box: the image box:1, which serves a page and echoes datagrams.
make_box()
{
	make_root
	mkdir -p root/www
	echo page >root/www/index.html
	cp "$GUEST/guest" root/bin/guest
	cat >root/bin/get <<-'END'
		#!/bin/sh
		# get HOST [PORT [PATH [SECONDS]]]
		printf 'GET %s HTTP/1.0\r\n\r\n' "${3-/}" |
			nc -w "${4-60}" "$1" "${2-80}" | tail -n 1
	END
	cat >root/bin/web <<-'END'
		#!/bin/sh
		while :; do guest answer:9053; done >/dev/null &
		exec httpd -f -p 80 -h /www
	END
	chmod +x root/bin/get root/bin/web
	tar -C root -c . | docker import - box:1 >out 2>err ||
		fail "import: $(cat err)"
}

# d ARGUMENT...: docker, which has to succeed
d()
{
	command="docker $*"
	timeout -k 5 "$LIMIT" docker "$@" >out 2>err </dev/null ||
		fail "status $?"
}
