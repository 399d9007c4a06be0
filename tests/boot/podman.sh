# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090,SC1091,SC2153 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Podman's containers in machines of their own, root's and an ordinary user's.
# Podman has files in /run and /dev/shm whatever it is told, and a user has to be
# made: in the lab only.

. "$TOP/tests/boot/run-lib.sh"

RUNTIME=${BULKHEAD}-runtime

# podman_here ARGUMENT...: with all that it keeps in this directory.
podman_here()
{
	command podman --root "$PWD/store" --runroot "$PWD/runroot" \
		--tmpdir "$PWD/podman-tmp" --cgroup-manager cgroupfs \
		--events-backend file --runtime "$RUNTIME" \
		--runtime-flag "root=$PWD/state" "$@"
}

# podman ARGUMENT...: status, out, err
podman()
{
	command="podman $*"
	status=0
	podman_here "$@" >out 2>err </dev/null || status=$?
}

# expect_podman STATUS ARGUMENT...
expect_podman()
{
	local wanted=$1

	shift
	podman "$@"
	expect_status "$wanted"
}

logs_have()
{
	podman_here logs "$1" 2>&1 | grep -q "$2"
}

clear_podman()
{
	end_all
	podman_here rm --all --force --time 0 >/dev/null 2>&1
	podman_here rmi --all --force >/dev/null 2>&1
	# Its overlay file system keeps these busy else.
	umount store/overlay 2>/dev/null
	rm -rf state /run/containers /run/bulkhead-runtime /dev/shm/libpod_lock
}

need_podman()
{
	in_lab || skip "in the lab only"
	command -v podman >/dev/null || skip "no podman"
	command -v conmon >/dev/null || skip "no conmon"
	make_root
}

test_root()
{
	need_podman
	trap clear_podman EXIT
	tar -C root -c . | podman_here import - box:1 >out 2>err ||
		fail "import: $(cat err)"
	mkdir vol
	expect_podman 5 run --rm --network none -e A=b -m 256m -v "$PWD/vol:/vol" \
		--hostname h1 --tmpfs /etc --init box:1 sh -c '
		echo $A $(hostname) $(cut -d: -f1 /etc/passwd | head -n 1)
		echo x >/vol/x; ps | grep -c "[c]atatonit\|[p]odman-init"; exit 5'
	[ "$(head -n 1 out)" = 'b h1 root' ] || fail "$(cat out)"
	[ "$(cat vol/x)" = x ] || fail "no file on the volume"
	expect_podman 127 run --rm --network none box:1 /nosuch
	expect_podman 126 run --rm --network none box:1 /etc/passwd
	expect_podman 126 run --rm --network host box:1 true
	grep -q "host's own network is not supported" err || fail "$(cat err)"

	expect_podman 0 run -d --network none --name d1 box:1 sh -c \
		'trap "echo term; exit 4" TERM; echo up; while :; do sleep 1; done'
	wait_until logs_have d1 up || fail "does not start: $(podman_here logs d1)"
	expect_podman 7 exec d1 sh -c 'echo in; echo new >/new; exit 7'
	[ "$(cat out)" = in ] || fail "exec: $(cat out err)"
	echo hi >hi
	expect_podman 0 cp hi d1:/hi
	expect_podman 0 exec d1 cat /hi
	[ "$(cat out)" = hi ] || fail "cp to it: $(cat out)"
	expect_podman 0 cp d1:/new new
	[ "$(cat new)" = new ] || fail "cp from it"
	expect_podman 0 pause d1
	expect_podman 0 inspect -f '{{.State.Status}}' d1
	[ "$(cat out)" = paused ] || fail "not paused: $(cat out)"
	expect_podman 0 unpause d1
	expect_podman 0 commit d1 new:1
	expect_podman 0 stop -t "$LIMIT" d1
	expect_podman 0 wait d1
	[ "$(cat out)" = 4 ] || fail "status: $(cat out)"
	logs_have d1 term || fail "no signal"
	# Its files are there when it is started again.
	expect_podman 0 start d1
	expect_podman 0 exec d1 cat /new
	expect_podman 0 kill -s KILL d1
	expect_podman 0 wait d1
	[ "$(cat out)" = 137 ] || fail "status of the killed: $(cat out)"
	expect_podman 0 rm d1
	expect_podman 0 run --rm --network none new:1 cat /new /hi
	[ "$(xargs <out)" = 'new hi' ] || fail "commit: $(cat out)"

	printf '%s\n' 'FROM box:1' 'RUN grep -c bulkhead /proc/version >/b' \
		'CMD cat /b' >Containerfile
	expect_podman 0 build --network none -t b:1 .
	expect_podman 0 run --rm --network none b:1
	[ "$(cat out)" = 1 ] || fail "not built in a machine: $(cat out)"
	clear_podman
	expect_nothing_left
}

# An ordinary user's engine is root in a user namespace. Its ports are forwarded
# by slirp4netns, as rootlessport connects from inside the container's network.
test_user()
{
	local home=/home/bulkhead-tester kernel

	need_podman
	command -v slirp4netns >/dev/null || skip "no slirp4netns"
	command -v newuidmap >/dev/null || skip "no newuidmap"
	useradd -m -d $home -s /bin/bash bulkhead-tester || skip "no user"
	kernel=$home/.cache/bulkhead/kernel-test
	mkdir -p "$kernel"
	cp "$KERNEL" "$kernel/vmlinux"
	tar -C root -cf $home/root.tar .
	cat >$home/podman <<-END
		export HOME=$home XDG_RUNTIME_DIR=$home/run
		exec podman --cgroup-manager cgroupfs --events-backend file \\
			--storage-driver vfs --runtime "$RUNTIME" "\$@"
	END
	mkdir -m 700 $home/run
	chown -R bulkhead-tester: $home
	chmod 666 /dev/kvm /dev/net/tun
	chmod 755 /tmp /run
	mount --make-rshared /
	podman_here()
	{
		(cd $home && runuser -u bulkhead-tester -- bash ./podman "$@")
	}
	podman import root.tar box:1
	[ "$status" -eq 0 ] || fail "import: $(cat err)"
	mkdir -m 777 $home/vol
	expect_podman 5 run --rm --network none -v $home/vol:/vol box:1 sh -c \
		'id -u; echo x >/vol/x; exit 5'
	[ "$(cat out)" = 0 ] || fail "not root: $(cat out)"
	[ "$(stat -c %U $home/vol/x)" = bulkhead-tester ] || fail "not the user's"
	expect_podman 0 run --rm --network none -u user box:1 sh -c \
		'touch /tmp/x; stat -c %u /tmp/x'
	[ "$(cat out)" = 1000 ] || fail "another owner: $(cat out)"
	expect_podman 0 run -d --name web -p 8080:80 \
		--network slirp4netns:port_handler=slirp4netns box:1 sh -c '
		mkdir /www; echo hello >/www/index.html
		exec httpd -f -p 80 -h /www'
	wait_until sh -c 'busybox wget -q -O- http://127.0.0.1:8080/ | grep hello' ||
		fail "no answer: $(podman_here logs web 2>&1)"
	expect_podman 0 exec web ip -4 -o addr show
	grep -q '10\.0\.2\.100/24' out || fail "no address: $(cat out)"
	expect_podman 0 rm --force --time 0 web
	podman rmi --all --force
	rm -f /dev/shm/libpod_rootless_lock_*
	expect_nothing_left
	userdel -r bulkhead-tester 2>/dev/null
}
