# shellcheck shell=bash disable=SC2034,SC2154,SC2004 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# README and docs/CONTAINERS as a newcomer reads them: every command that they
# show (tests/doc-commands) is run as it stands, in their order, in one
# directory. Only the names in it (alpine.tar, nginx.tar, bundle) are made first
# where a document takes them from elsewhere. tests/check-docs sees to the
# packages that they install.

. "$TOP/tests/boot/run-lib.sh"
unset BULKHEAD_KERNEL

# The network that -p needs, and a tap that a document makes.
make_network()
{
	ip link add docs0 type veth peer name docs1 &&
		ip address add 192.0.2.1/24 dev docs0 &&
		ip link set docs1 up && ip link set docs0 up &&
		ip route add default via 192.0.2.2 dev docs0
}

end_network()
{
	ip link del docs0
	ip link del tap0 2>/dev/null
}

# run_command COMMAND: fails the test where it fails
run_command()
{
	command=$1
	status=0
	case $1 in
	'apt-get install '* | './bootstrap '* | autoreconf\ * | 'make deb')
		# Others run what these do: CI, check-dist, check-package.
		bash -n -c "$1" >out 2>err || status=$?
		;;
	'bulkhead bench '*)
		# Minutes, here; tests/boot/bench.sh runs it.
		bash -n -c "$1" >out 2>err || status=$?
		;;
	*' -it '* | 'bulkhead boot '*)
		timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' 'type=exit\r' \
			-- bash -c "$1" >out 2>err || status=$?
		;;
	*'logs -f '*)
		# It follows until a later line of the document ends the
		# container.
		bash -c "$1" >followed 2>&1 &
		followed=$!
		: >out
		: >err
		;;
	*)
		timeout -k 5 "$LIMIT" bash -c "$1" >out 2>err </dev/null ||
			status=$?
		;;
	esac
	[ "$status" -eq 0 ] || fail "it does not work as it stands"
	echo "ok: $1"
}

# run_document FILE: its commands
run_document()
{
	local line followed='' n=0

	mkdir -p bin
	ln -s "$BULKHEAD" bin/bulkhead
	ln -s "$TOP/firmware" "$TOP/docs" .
	PATH=$PWD/bin:$PATH
	export PATH USER=root
	while read -r line; do
		run_command "$line"
		n=$((n + 1))
	done < <("$TOP/tests/doc-commands" "$TOP/$1")
	[ "$n" -gt 5 ] || fail "$n commands in $1"
	[ -z "$followed" ] || wait "$followed" ||
		fail "logs -f: $(cat followed)"
}

test_readme()
{
	in_lab || skip "what README says is tried in the lab only"
	run_document README
	# The guest powered off and was not ended by a panic: its status was 0.
	[ ! -e "$BULKHEAD_RUNTIME_DIR" ] || expect_swept
}

test_containers()
{
	in_lab || skip "what docs/CONTAINERS says is tried in the lab only"
	make_root
	mkdir -p root/etc/nginx
	: >root/etc/nginx/nginx.conf
	echo ID=alpine >root/etc/os-release
	image_config='"Cmd":["/bin/sh"]' make_archive alpine.tar
	image_config='"Entrypoint":["/bin/sleep","1000"],"StopSignal":"SIGKILL"' \
		make_archive nginx.tar
	mkdir bundle
	mv root bundle/
	cat >bundle/config.json <<-END
		{"ociVersion": "1.0.2", "root": {"path": "root"}, "mounts":
		[{"destination": "/proc", "type": "proc"},
		{"destination": "/dev", "type": "tmpfs"}], "process":
		{"args": ["/bin/busybox", "true"], "cwd": "/"}, "linux":
		{"namespaces": [{"type": "pid"}, {"type": "network"},
		{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}}
	END
	make_network || fail "no network can be made"
	trap end_network EXIT
	run_document docs/CONTAINERS
}
