# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker's containers in machines of their own: a real dockerd with
# bulkhead-runtime as one of its runtimes.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/dockerd.sh"

# docker_run ARGUMENT...: status, out, err
docker_run()
{
	command="docker run --runtime bulkhead --network none $*"
	status=0
	timeout -k 5 "$LIMIT" docker run --runtime bulkhead --network none "$@" \
		>out 2>err </dev/null || status=$?
}

test_docker_run()
{
	local id

	need_root
	command -v dockerd >/dev/null || skip "no dockerd"
	command -v docker >/dev/null || skip "no docker"
	make_root
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime"
	tar -C root -c . | docker import - box:1 >out 2>err || fail "import: $(cat err)"
	mkdir vol
	docker_run --rm -e A=b -m 256m -v "$PWD/vol:/vol" --hostname h1 box:1 sh -c '
		echo $A; hostname; cat /etc/hosts | tail -n 1; echo x >/vol/x
		grep Seccomp: /proc/self/status; free -m | sed -n 2p; exit 5'
	expect_status 5
	[ "$(cat vol/x)" = x ] || fail "no file on the volume"
	grep -q '^Seccomp:.*2$' out || fail "no filter"
	docker run -d --runtime bulkhead --network none --name d1 -m 256m box:1 sh -c \
		'trap "echo term; exit 4" TERM; touch /made; echo up; while :; do sleep 1; done' >out 2>err ||
		fail "run -d: $(cat err)"
	wait_until sh -c 'docker logs d1 2>&1 | grep -q up'
	docker exec d1 sh -c 'echo in; exit 6' >out 2>err && fail "no status" || status=$?
	expect_status 6
	[ "$(cat out)" = in ] || fail "exec: $(cat out err)"
	docker exec d1 /nonexistent >out 2>err || status=$?
	expect_status 127
	docker stats --no-stream --format '{{.MemUsage}}' d1 >out 2>err ||
		fail "stats: $(cat err)"
	grep -q '384MiB' out || fail "not the limit and the monitor's: $(cat out)"
	docker stop -t "$LIMIT" d1 >out 2>err || fail "stop: $(cat err)"
	[ "$(docker inspect -f '{{.State.ExitCode}}' d1)" = 4 ] || fail "status"
	docker logs d1 2>&1 | grep -q term || fail "no signal"
	docker diff d1 >out 2>err || fail "diff: $(cat err)"
	[ "$(grep -v '^[AC] /\(dev\|proc\|sys\|etc\)\(/\|$\)' out)" = 'A /made' ] ||
		fail "changes: $(cat out)"
	docker rm d1 >out 2>err || fail "rm: $(cat err)"
	stop_dockerd
	expect_nothing_left
}

# start_box: a dockerd with an image of busybox, box:1
start_box()
{
	need_root
	command -v dockerd >/dev/null || skip "no dockerd"
	command -v docker >/dev/null || skip "no docker"
	make_root
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime" "$@"
	tar -C root -c . | docker import - box:1 >out 2>err || fail "import: $(cat err)"
}

end_box()
{
	docker ps -aq | xargs -r docker rm -f >/dev/null 2>&1
	stop_dockerd
	expect_nothing_left
}

# docker_do STATUS ARGUMENT...: out, err; fails the test with another status
docker_do()
{
	local want=$1

	shift
	command="docker $*"
	status=0
	timeout -k 5 "$LIMIT" docker "$@" >out 2>err </dev/null || status=$?
	expect_status "$want"
}

# start_docker NAME ARGUMENT...: in the background
start_docker()
{
	local name=$1

	shift
	docker_do 0 run -d --runtime bulkhead --network none --name "$name" "$@"
}

# state NAME TEMPLATE TEXT: of `docker inspect`
state()
{
	[ "$(docker inspect -f "{{.State.$2}}" "$1")" = "$3" ]
}

in_log()
{
	docker logs "$1" 2>&1 | grep -q -- "$2"
}

# has WORD...: lines that are in out
has()
{
	local line

	for line; do
		grep -qxF -- "$line" out || fail "no line '$line': $(cat out err)"
	done
}

# refused TEXT ARGUMENT...: by `docker run`, with a reason
refused()
{
	local text=$1

	shift
	docker_run --rm "$@" box:1 true
	expect_status 125
	grep -qF -- "$text" err || fail "$*: $(cat err)"
}

test_options()
{
	start_box
	mkdir -m 777 vol
	echo data >vol/a
	echo file >single
	docker_run --rm -m 200m --cpus 0.5 -v "$PWD/vol:/vol" -v "$PWD/single:/single:ro" \
		-v v1:/v1 --mount "type=bind,src=$PWD/vol,dst=/ro,readonly" \
		--mount type=volume,src=v2,dst=/v2 --mount type=tmpfs,dst=/t1,tmpfs-size=1m \
		--tmpfs /t2:size=2m -u user --group-add 1234 --read-only --hostname h1 \
		--add-host foo:1.2.3.4 -e A=b -w /made --cap-add NET_ADMIN --cap-drop CHOWN \
		--security-opt no-new-privileges --ulimit nofile=100:200 \
		--sysctl net.ipv4.ip_forward=1 --shm-size 3m --pids-limit 50 --init box:1 sh -c '
		id -u; id -G; pwd; hostname; grep -c "1.2.3.4.*foo" /etc/hosts; echo A=$A
		cat /single /vol/a; touch /vol/made && echo made
		touch /ro/x 2>/dev/null || echo ro; echo x 2>/dev/null >/single || echo single
		touch /x 2>/dev/null || echo root
		df -k /t1 /t2 /dev/shm | awk "{ print \$6, \$2 }"
		ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward
		grep -E "CapBnd|NoNew" /proc/self/status | tr "\t" " "
		cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max; nproc
		tr "\0" " " </proc/1/cmdline | grep -o "^/sbin/docker-init"'
	expect_status 0
	has 1000 '1000 1001 1234' /made h1 1 A=b file data made ro single root \
		'/t1 1024' '/t2 2048' '/dev/shm 3072' 100 200 'NoNewPrivs: 1' \
		'CapBnd: 00000000a80435fa' 50 '50000 100000' 1 /sbin/docker-init
	[ -e vol/made ] || fail "no file on the volume"
	docker_run --rm --ipc shareable --shm-size 5m --security-opt seccomp=unconfined \
		-u 1000:1001 --entrypoint sh box:1 -c '
		df -k /dev/shm | awk "{ print \$6, \$2 }"; id -g; grep Seccomp: /proc/self/status'
	has '/dev/shm 5120' 1001 'Seccomp:	0'
	docker_run --rm --privileged box:1 sh -c 'mount -t tmpfs t /tmp && echo mounted
		[ ! -e /dev/kvm ] && echo none'
	has mounted none
	refused "'/dev/kvm' is a device of the host's" --device /dev/kvm
	refused "without 'pid'" --pid host
	refused "without 'ipc'" --ipc host
	refused "without 'uts'" --uts host
	docker_run --rm box:1 /nonexistent
	expect_status 127
	docker_run --rm box:1 /etc
	expect_status 126
	(echo one; sleep 1; echo two) | docker run --runtime bulkhead --network none --rm -i box:1 \
		sh -c 'wc -l; echo end' >out 2>err || fail "-i: $(cat err)"
	has 2 end
	end_box
}

test_life()
{
	start_box
	start_docker one -m 256m box:1 sh -c 'for s in TERM USR1 34 64; do
		trap "echo got $s" $s; done; echo up; while :; do sleep 0.2; done'
	wait_until in_log one up || fail "does not start"
	for signal in TERM USR1 34 RTMAX; do
		docker_do 0 kill -s "$signal" one
	done
	wait_until in_log one 'got 64' || fail "signals: $(docker logs one)"
	in_log one 'got 34' || fail "signals: $(docker logs one)"
	docker_do 0 kill -s STOP one
	docker_do 0 exec one sed -n 's/^State:.\(.\).*/\1/p' /proc/1/status
	has T
	docker_do 0 kill -s CONT one
	docker_do 0 exec one sed -n 's/^State:.\(.\).*/\1/p' /proc/1/status
	! grep -qx T out || fail "does not go on"

	echo in | docker exec -i -u 1000 -w /tmp -e A=b one sh -c 'cat; id -u; pwd; echo $A; exit 9' \
		>out 2>err && fail "no status" || status=$?
	expect_status 9
	has in 1000 /tmp b
	docker_do 126 exec one /etc/passwd

	docker_do 1 exec one cat /later
	for text in first second,longer; do
		echo "$text" >later
		docker_do 0 cp later one:/later
		docker_do 0 exec one cat /later
		has "$text"
	done
	docker_do 0 exec one sh -c 'mkdir /o; echo guest >/o/f'
	docker_do 0 cp one:/o from
	[ "$(cat from/f)" = guest ] || fail "cp: $(cat from/f)"

	docker_do 0 pause one
	state one Status paused || fail "not paused"
	docker_do 0 unpause one
	docker_do 0 exec one true
	docker_do 0 commit one saved:1
	docker_do 0 run --rm --runtime bulkhead --network none saved:1 cat /o/f /later
	has guest second,longer

	docker_do 0 update --cpus 0.5 one
	docker_do 1 update --memory 300m one
	grep -q 'the machine has 256 MiB' err || fail "update: $(cat err)"
	docker_do 1 update --pids-limit 10 one
	docker_do 0 update --memory 256m --memory-swap 512m one

	docker_do 0 rename one two
	docker wait two >waited 2>&1 &
	docker_do 0 kill two
	wait $!
	[ "$(cat waited)" = 137 ] || fail "wait: $(cat waited)"
	docker_do 0 start two
	docker_do 0 restart -t 0 two
	docker_do 0 exec two cat /o/f
	has guest
	docker_do 0 pause two
	docker_do 0 rm -f two
	docker_do 0 create --runtime bulkhead --network none --name three box:1 \
		sh -c 'trap "exit 4" TERM; echo up; while :; do sleep 0.2; done'
	docker_do 0 start three
	wait_until in_log three up || fail "does not start"
	docker_do 0 stop -t "$LIMIT" three
	state three ExitCode 4 || fail "another status"
	end_box
}

# at_terminal ROWS COLUMNS COMMAND...: runs it at a terminal of its own, which
# types what comes from descriptor 9; what it shows is in tty.out.
at_terminal()
{
	local size="rows $1 cols $2"

	shift 2
	command="$* (at a terminal)"
	rm -f tty.in tty.out
	mkfifo tty.in
	setsid script -qfec "stty $size; tty; exec $*" tty.out <tty.in >/dev/null 2>&1 &
	terminal=$!
	exec 9>tty.in
}

shows()
{
	tr -d '\r' <tty.out | grep -qx -- "$1"
}

await_shown()
{
	wait_until shows "$1" || fail "'$1' is not shown: $(cat -v tty.out)"
}

# resize ROWS COLUMNS: the terminal of at_terminal
resize()
{
	stty -F "$(grep -ao '/dev/pts/[0-9]*' tty.out | head -n 1)" rows "$1" cols "$2"
}

# answers INPUT TEXT: types INPUT; whether TEXT is a line by now
answers()
{
	echo "$1" >&9
	sleep 0.5
	shows "$2"
}

await_answer()
{
	wait_until answers "$1" "$2" || fail "'$2' is not shown: $(cat -v tty.out)"
}

# The status of what ran at the terminal.
leave_terminal()
{
	status=0
	wait "$terminal" || status=$?
	exec 9>&-
}

test_terminal()
{
	command -v script >/dev/null || skip "no script"
	start_box
	at_terminal 30 90 docker run --runtime bulkhead --network none --name one -it box:1 sh
	wait_until grep -q '/ #' tty.out || fail "no prompt: $(cat tty.out)"
	echo 'echo now $(stty size)' >&9
	await_shown 'now 30 90'
	# The shell's own line editor takes this signal from its traps.
	echo 'sh -c "trap \"echo winch\" WINCH; echo armed; while :; do sleep 1; done"' >&9
	await_shown armed
	resize 41 101
	await_shown winch
	printf '\003' >&9
	await_answer 'echo then $(stty size)' 'then 41 101'
	printf '\020\021' >&9
	leave_terminal
	state one Status running || fail "detached: $(docker inspect one)"
	at_terminal 20 80 docker attach one
	wait_until state one Running true
	await_answer 'echo again $(stty size)' 'again 20 80'
	echo 'exit 5' >&9
	leave_terminal
	expect_status 5
	start_docker two -it box:1 sh
	at_terminal 22 82 docker exec -it two sh
	wait_until grep -q '/ #' tty.out || fail "no prompt: $(cat tty.out)"
	echo 'echo now $(stty size)' >&9
	await_shown 'now 22 82'
	resize 43 103
	await_answer 'echo then $(stty size)' 'then 43 103'
	echo 'exit 6' >&9
	leave_terminal
	expect_status 6
	end_box
}

# kill_monitor NAME: found by its control group, as the daemon counts processes
# in a namespace of its own
kill_monitor()
{
	local group pid

	group=$(find /sys/fs/cgroup -type d -name "$(docker inspect -f '{{.Id}}' "$1")" |
		head -n 1)
	while read -r pid; do
		[ "$(cat "/proc/$pid/comm")" = bulkhead-vm ] || continue
		kill -KILL "$pid"
		return
	done <"$group/cgroup.procs"
	fail "no monitor in $group"
}

restarted()
{
	[ "$(docker inspect -f '{{.RestartCount}} {{.State.Status}}' "$1")" = "$2" ]
}

test_ends()
{
	start_box
	start_docker fails --restart on-failure:2 box:1 sh -c 'echo run; exit 3'
	start_docker always --restart always box:1 sh -c 'echo run; sleep 10000'
	wait_until in_log always run || fail "does not start"
	kill_monitor always
	wait_until restarted always '1 running' || fail "not restarted: $(docker inspect always)"
	docker_do 0 rm -f always
	wait_until restarted fails '2 exited' || fail "not tried again: $(docker inspect fails)"
	state fails ExitCode 3 || fail "another status"
	start_docker healthy --health-cmd 'test -e /healthy' --health-interval 1s \
		--health-timeout 60s --health-retries 1 box:1 sh -c 'touch /healthy; sleep 10000'
	wait_until state healthy Health.Status healthy || fail "not healthy"
	docker_do 0 exec healthy rm /healthy
	wait_until state healthy Health.Status unhealthy || fail "still healthy"
	docker_do 0 rm -f healthy
	# In a small group, whose end nothing else of the guest's waits for.
	docker_run --privileged --name full box:1 sh -c '
		cd /sys/fs/cgroup && mkdir small && echo 0 >small/cgroup.procs &&
		echo +memory >cgroup.subtree_control && echo 16M >small/memory.max &&
		exec awk "BEGIN { while (1) a[i++] = i }"'
	expect_status 137
	wait_until state full OOMKilled true || fail "no OOMKilled: $(docker inspect full)"
	grep -q 'killed for lack of memory' err || fail "not said: $(cat err)"
	end_box
}

# The daemon alone is killed, and ends: containers go on, and what happened to
# them meanwhile is seen.
test_live_restore()
{
	local name

	start_box --live-restore
	for name in one two; do
		start_docker "$name" box:1 \
			sh -c 'echo up; while [ ! -e /go ]; do sleep 1; done; exit 9'
	done
	wait_until in_log one up || fail "does not start"
	wait_until in_log two up || fail "does not start"
	restart_dockerd KILL
	state one Status running || fail "its state: $(docker inspect one)"
	docker_do 0 exec one touch /go
	wait_until state one Status exited || fail "its end is not seen"
	state one ExitCode 9 || fail "another status"
	restart_dockerd TERM
	docker_do 0 exec two echo still
	has still
	end_box
}

test_many()
{
	local i started=()

	start_box
	for i in 1 2 3 4 5 6 7 8 9 10; do
		docker run -d --runtime bulkhead --network none --name "m$i" -m 64m box:1 \
			sh -c 'echo up; sleep 10000' >"m$i.out" 2>&1 &
		started+=($!)
	done
	for i in 1 2 3 4 5 6 7 8 9 10; do
		wait "${started[i - 1]}" || fail "m$i: $(cat "m$i.out")"
		wait_until in_log "m$i" up || fail "m$i does not run"
	done
	end_box
}

test_build()
{
	start_box --default-runtime bulkhead
	mkdir context
	printf 'FROM box:1\nRUN cat /proc/version >/version\nCMD ["cat", "/version"]\n' \
		>context/Dockerfile
	export DOCKER_BUILDKIT=0
	docker_do 0 build --network none -t built:1 context
	docker_do 0 run --network none --rm built:1
	! grep -qF "$(uname -r)" out || fail "built on the host: $(cat out)"
	grep -q 'Linux version' out || fail "not built: $(cat out)"
	end_box
}

# With userns-remap a container's root is a user of the host's who may nothing.
test_userns()
{
	local owner

	# Its root has to reach what is in here.
	chmod 755 "$PWD" "$(dirname "$PWD")"
	! in_lab || chmod 666 /dev/net/tun
	start_box --userns-remap default
	mkdir -m 777 vol
	start_docker d1 -v "$PWD/vol:/vol" box:1 sh -c \
		'id -u; touch /vol/f; stat -c %u /bin/busybox /vol/f; echo up; exec sleep 1000'
	wait_until in_log d1 up
	[ "$(docker logs d1 2>&1 | xargs)" = '0 0 0 up' ] || fail "$(docker logs d1 2>&1)"
	owner=$(stat -c %u vol/f)
	[ "$owner" -ge 65536 ] || fail "the file is user $owner's"
	docker_do 6 exec -u 1000 d1 sh -c 'id -u; exit 6'
	has 1000
	docker_do 0 rm -f d1
	end_box
}
