# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090,SC1091,SC2153 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Podman's containers in machines of their own, root's and an ordinary user's.
# Podman has files in /run and /dev/shm whatever it is told, and a user has to be
# made: in the lab only. The tests are functions here, for each release of it.

. "$TOP/tests/boot/run-lib.sh"

RUNTIME=${BULKHEAD}-runtime
STATE=/run/bulkhead-runtime

# A root that Podman and what belongs to it are in; "": the host's own.
podman_root=''

# start_root: makes that root, and a process in it
start_root()
{
	[ -n "$podman_root" ] || return 0
	# Podman puts an overlay of its own there, which takes no other one.
	mkdir -p engine home /home/bulkhead-tester
	mount --bind home /home/bulkhead-tester
	unshare -m sh -ec '. "$TOP/tests/engine-lib.sh"
		engine_use_root "$@"
		: >"$3/engine.ready"
		exec sleep 1000000' sh "$PWD/engine" "$podman_root" "$PWD" \
		"$TOP" "${BULKHEAD%/*}" "${KERNEL%/*}" /home/bulkhead-tester \
		>engine.log 2>&1 </dev/null &
	holder=$!
	wait_until engine_is_there || fail "no root: $(cat engine.log)"
	[ -e engine.ready ] || fail "no root: $(tail -n 5 engine.log)"
}

engine_is_there()
{
	[ -e engine.ready ] || ! kill -0 "$holder"
}

# in_engine COMMAND...: in the same directory of the engine's root
in_engine()
{
	if [ -n "$podman_root" ]; then
		nsenter -t "$holder" -m sh -c 'cd "$1" && shift && exec "$@"' \
			sh "$PWD" "$@"
	else
		command "$@"
	fi
}

# podman_here ARGUMENT...: with all that it keeps in this directory.
podman_here()
{
	in_engine podman --root "$PWD/store" --runroot "$PWD/runroot" \
		--tmpdir "$PWD/podman-tmp" --cgroup-manager cgroupfs \
		--events-backend file --runtime "$RUNTIME" "$@"
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

clear_root()
{
	[ -z "${holder-}" ] || {
		kill -KILL "$holder"
		wait "$holder" 2>/dev/null
		umount /home/bulkhead-tester
	}
	holder=''
}

clear_podman()
{
	end_all
	[ -z "$podman_root" ] || [ -n "${holder-}" ] || return 0
	podman_here rm --all --force --time 0 >/dev/null 2>&1
	podman_here rmi --all --force >/dev/null 2>&1
	# Its overlay file system keeps these busy else.
	in_engine umount store/overlay 2>/dev/null
	in_engine rm -rf /run/containers /run/bulkhead-runtime
	rm -f /dev/shm/libpod_lock
	clear_root
} 2>/dev/null

need_podman()
{
	in_lab || skip "in the lab only"
	start_root
	in_engine sh -c 'command -v podman' >/dev/null || skip "no podman"
	in_engine sh -c 'command -v conmon' >/dev/null || skip "no conmon"
	make_root
}

# start_box: an image of busybox, box:1, and what --init and pods execute
start_box()
{
	trap clear_podman EXIT
	need_podman
	in_engine sh -c 'test -x /usr/libexec/podman/catatonit ||
		command -v catatonit' >/dev/null || skip "no catatonit"
	tar -C root -c . | podman_here import - box:1 >out 2>err ||
		fail "import: $(cat err)"
}

expect_no_state()
{
	[ -z "$(in_engine find "$STATE" -mindepth 1 ! -name @host)" ] ||
		fail "left behind: $(in_engine find "$STATE")"
}

# out_is TEXT: the words of it
out_is()
{
	[ "$(xargs <out)" = "$1" ] || fail "$(cat out err)"
}

# podman_watched NAME: its health, statistics and limits
podman_watched()
{
	expect_podman 1 healthcheck run "$1"
	expect_podman 0 exec "$1" touch /healthy
	expect_podman 0 healthcheck run "$1"
	expect_podman 0 top "$1"
	grep -q bulkhead out || fail "top: $(cat out)"
	expect_podman 0 stats --no-stream --format '{{.Name}}' "$1"
	out_is "$1"
	expect_podman 0 update --cpus 0.5 "$1"
	expect_podman 125 update --memory 1g "$1"
	grep -q 'cannot change while it runs' err || fail "update: $(cat err)"
}

podman_as_root()
{
	start_box
	mkdir vol
	expect_podman 5 run --rm --network none -e A=b -m 256m -v "$PWD/vol:/vol" \
		--hostname h1 --tmpfs /etc --init box:1 sh -c '
		echo $A $(hostname) $(cut -d: -f1 /etc/passwd | head -n 1)
		echo x >/vol/x; ps | grep -c "[c]atatonit\|[p]odman-init"; exit 5'
	[ "$(head -n 1 out)" = 'b h1 root' ] || fail "$(cat out)"
	[ "$(cat vol/x)" = x ] || fail "no file on the volume"
	expect_podman 127 run --rm --network none box:1 /nosuch
	expect_podman 126 run --rm --network none box:1 /etc/passwd
	expect_podman 0 run --rm --network none --uidmap 0:200000:65536 box:1 \
		sh -c 'stat -c %u /bin/busybox; cat /proc/sys/kernel/ostype'
	[ "$(xargs <out)" = '0 Linux' ] || fail "with another root: $(cat out)"
	expect_podman 126 run --rm --network host box:1 true
	grep -q "host's own network is not supported" err || fail "$(cat err)"

	expect_podman 0 run -d --network none --name d1 --health-interval disable \
		--health-cmd 'test -e /healthy' box:1 sh -c \
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
	podman_watched d1
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

# The pod's infra container owns the machine. With control groups of version 2
# and without systemd this Podman's pods get a group that no device can be
# opened in, whatever the runtime: --share-parent=false.
podman_pods()
{
	local serve='mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www'

	start_box
	expect_podman 0 pod create --name p --network none --hostname podhost \
		--share-parent=false
	expect_podman 0 run -d --pod p --name web box:1 sh -c "$serve"
	expect_podman 3 run --rm --pod p box:1 sh -c 'hostname
		until wget -q -O- http://127.0.0.1/; do sleep 0.2; done; exit 3'
	out_is 'podhost hello'
	expect_podman 4 exec web sh -c 'cat /proc/1/comm; exit 4'
	out_is httpd
	expect_podman 0 run -d --pod p --name two box:1 sh -c \
		'trap "echo term; exit 5" TERM; echo up; while :; do sleep 0.2; done'
	wait_until logs_have two up || fail "does not start: $(podman_here logs two)"
	expect_podman 0 pod stats --no-stream --format '{{.Name}}'
	grep -qx two out || fail "no statistics: $(cat out)"
	# It ends, and comes again in the machine that lives on.
	expect_podman 0 stop -t "$LIMIT" two
	expect_podman 0 inspect -f '{{.State.ExitCode}}' two
	out_is 5
	expect_podman 0 start two
	expect_podman 0 exec two wget -q -O- http://127.0.0.1/
	out_is hello
	expect_podman 0 pod pause p
	expect_podman 0 pod inspect -f '{{.State}}' p
	out_is Paused
	expect_podman 0 pod unpause p
	expect_podman 0 exec two wget -q -O- http://127.0.0.1/
	out_is hello
	expect_podman 0 pod kill p
	expect_podman 0 pod start p
	expect_podman 0 exec two wget -q -O- http://127.0.0.1/
	out_is hello
	expect_podman 126 run --rm --pod p --network none box:1 true
	# Podman 5 gives it a new network beside the pod's other namespaces.
	grep -Eq "has the network of that one, and no other|'uts' of another" err ||
		fail "$(cat err)"
	expect_podman 0 pod stop -t "$LIMIT" p
	expect_podman 0 pod rm p
	expect_no_state
	# Without an infra container each one has a machine of its own.
	expect_podman 0 pod create --name q --infra=false --share-parent=false
	expect_podman 0 run --rm --pod q --network none box:1 echo alone
	out_is alone
	expect_podman 0 pod rm q
	clear_podman
	expect_nothing_left
}

# An ordinary user's engine is root in a user namespace.
#
# become_user [PROGRAM]...: with these in the image, too
become_user()
{
	local kernel

	home=/home/bulkhead-tester
	STATE=$home/run/bulkhead-runtime
	trap clear_root EXIT
	need_podman
	in_engine sh -c 'command -v newuidmap && command -v slirp4netns' \
		>/dev/null || skip "no newuidmap or slirp4netns"
	in_engine sh -c 'getent group kvm || groupadd kvm' >/dev/null ||
		skip "no group"
	mkdir -p "$home"
	in_engine useradd -d "$home" -s /bin/bash -G kvm bulkhead-tester ||
		skip "no user"
	uid=$(in_engine id -u bulkhead-tester)
	kernel=$home/.cache/bulkhead/kernel-test
	mkdir -p "$kernel"
	cp "$KERNEL" "$kernel/vmlinux"
	[ $# -eq 0 ] || cp "$@" root/bin
	tar -C root -cf "$home/root.tar" .
	cat >"$home/podman" <<-END
		export HOME=$home XDG_RUNTIME_DIR=$home/run
		# It is root's; Podman 5 passes this on to the runtime.
		unset BULKHEAD_KERNEL
		exec podman --cgroup-manager cgroupfs --events-backend file \\
			--storage-driver vfs --runtime "$RUNTIME" "\$@"
	END
	mkdir -m 700 "$home/run"
	mkdir -m 777 "$home/vol"
	chown -R "$uid:$uid" "$home"
	in_engine chgrp kvm /dev/kvm
	chmod 660 /dev/kvm
	chmod 666 /dev/net/tun
	chmod 755 /tmp /run
	in_engine mount --make-rshared /
	podman_here()
	{
		(cd "$home" &&
			in_engine runuser -u bulkhead-tester -- bash ./podman "$@")
	}
	expect_podman 0 import root.tar box:1
}

leave_user()
{
	podman rmi --all --force
	rm -f /dev/shm/libpod_rootless_lock_*
	expect_no_state
	expect_nothing_left
	# Podman's process that holds the user namespace stays.
	pkill -KILL -u "$uid"
	wait_until in_engine userdel bulkhead-tester 2>/dev/null ||
		fail "the user stays"
	clear_root
	rm -rf "$home"
}

podman_as_user()
{
	local home uid

	become_user
	expect_podman 5 run --rm --network none -v "$home/vol:/vol" box:1 sh -c \
		'id -u; echo x >/vol/x; exit 5'
	[ "$(cat out)" = 0 ] || fail "not root: $(cat out)"
	[ "$(stat -c %u "$home/vol/x")" = "$uid" ] || fail "not the user's"
	expect_podman 0 run --rm --network none -u user box:1 sh -c \
		'touch /tmp/x; stat -c %u /tmp/x'
	[ "$(cat out)" = 1000 ] || fail "another owner: $(cat out)"
	# The user is himself in the container, and its root is nobody's.
	expect_podman 0 run --rm --network none --userns keep-id \
		-v "$home/vol:/vol" box:1 sh -c 'id -u; touch /vol/own; stat -c %u /vol/own'
	out_is "$uid $uid"
	[ "$(stat -c %u "$home/vol/own")" = "$uid" ] || fail "not the user's file"
	expect_podman 0 run -d --name web -p 8080:80 \
		--network slirp4netns:port_handler=slirp4netns box:1 sh -c '
		mkdir /www; echo hello >/www/index.html
		exec httpd -f -p 80 -h /www'
	wait_until sh -c 'busybox wget -q -O- http://127.0.0.1:8080/ | grep hello' ||
		fail "no answer: $(podman_here logs web 2>&1)"
	expect_podman 0 exec web ip -4 -o addr show
	grep -q '10\.0\.2\.100/24' out || fail "no address: $(cat out)"
	expect_podman 0 rm --force --time 0 web
	leave_user
}

# sum_at PORT BYTES: what the other end of a connection says once it has seen
# the end of what was sent, which this one can still hear.
sum_at()
{
	perl -MIO::Socket::INET -e '
		my $socket = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or exit 1;
		print $socket "x" x $ARGV[1] and $socket->shutdown(1) or exit 1;
		print <$socket>;' "$1" "$2" 2>/dev/null
}

sum_is()
{
	[ "$(sum_at "$1" "$2")" = "$2" ]
}

# Podman's rootlessport enters the container's network namespace and connects to
# the address that it has there.
podman_ports_of_user()
{
	local home uid mode

	become_user "$GUEST/guest"
	for mode in '' keep-id; do
		expect_podman 0 run -d --name web ${mode:+--userns "$mode" -u 0} \
			-p 8080:80 -p 8081:81/udp -p 127.0.0.1:8082:82 box:1 sh -c '
			while :; do guest answer:81; done &
			while :; do nc -l -p 82 -e wc -c; done &
			guest serve:80:4M && exec sleep 100000'
		# A forwarder takes connections that nobody listens for yet.
		wait_until logs_have web 'listening at 80' ||
			fail "$(podman_here logs web 2>&1)"
		"$GUEST/guest" send:127.0.0.1:8080:4M >host.out ||
			fail "TCP: $(cat host.out; podman_here logs web 2>&1)"
		"$GUEST/guest" ask:127.0.0.1:8081:1000 >host.out ||
			fail "UDP: $(cat host.out; podman_here logs web 2>&1)"
		wait_until sum_is 8082 300000 ||
			fail "half-closed: $(sum_at 8082 300000)"
		expect_podman 0 rm --force --time 0 web
	done
	leave_user
}

# A pod of a file as Kubernetes has it: two containers, volumes, an init
# container, a ConfigMap. This Podman starts an init container again, too, unless
# the pod says that it does not.
podman_kube_play()
{
	local home uid

	become_user
	cat >"$home/pod.yaml" <<-END
		apiVersion: v1
		kind: ConfigMap
		metadata: {name: settings}
		data: {key: value-of-key}
		---
		apiVersion: v1
		kind: Pod
		metadata: {name: kp}
		spec:
		  restartPolicy: Never
		  volumes:
		  - {name: host, hostPath: {path: $home/vol, type: Directory}}
		  - {name: named, persistentVolumeClaim: {claimName: claim}}
		  - {name: map, configMap: {name: settings}}
		  initContainers:
		  - name: first
		    image: localhost/box:1
		    command: [sh, -c, "echo of-first >/data/first"]
		    volumeMounts: [{name: host, mountPath: /data}]
		  containers:
		  - name: a
		    image: localhost/box:1
		    command: [sh, -c, "echo of-a >/named/a; mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"]
		    volumeMounts: [{name: named, mountPath: /named}]
		  - name: b
		    image: localhost/box:1
		    command: [sh, -c, "until cat /named/a; do sleep 0.2; done; cat /data/first /map/key; echo; until wget -q -O- http://127.0.0.1/; do sleep 0.2; done; echo ready; sleep 1000"]
		    volumeMounts: [{name: host, mountPath: /data}, {name: named, mountPath: /named}, {name: map, mountPath: /map}]
	END
	expect_podman 0 kube play --network slirp4netns pod.yaml
	wait_until logs_have kp-b ready || fail "$(podman_here logs kp-b 2>&1)"
	podman logs kp-b
	[ "$(grep -v "can't" out | xargs)" = 'of-a of-first value-of-key hello ready' ] ||
		fail "$(cat out err)"
	expect_podman 0 kube generate kp
	grep -q 'image: localhost/box:1' out || fail "$(cat out)"
	expect_podman 0 kube down pod.yaml
	expect_podman 0 ps -aq
	out_is ''
	expect_podman 0 volume rm --all --force
	leave_user
}
