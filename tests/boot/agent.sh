# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# bulkhead-init in the guest: the container's file systems, users and limits,
# hostile roots, many sessions, no memory.

. "$TOP/tests/boot/run-lib.sh"

# expect_lines LINE...: the whole output.
expect_lines()
{
	printf '%s\n' "$@" | cmp -s - out || fail "output is not: $*"
}

# One run checks all of it, as each boot takes long on slow hosts.
test_surroundings()
{
	make_root
	run --rm --hostname box root sh -c '
		echo pid $$ host $(hostname) umask $(umask)
		echo root $(ls /)
		echo dev $(ls /dev)
		for d in / /dev /dev/shm /tmp; do
			touch $d/x && echo write $d
		done
		for d in /sys /proc/sys/kernel /sys/fs/cgroup; do
			touch $d/x 2>/dev/null && echo FAIL write $d
		done
		echo x 2>/dev/null >/proc/sys/kernel/hostname &&
			echo FAIL sysctl
		echo h 2>/dev/null >/proc/sysrq-trigger && echo FAIL sysrq
		echo masked $(cat /proc/keys /proc/timer_list | wc -c)
		echo firmware $(ls /sys/firmware)
		echo null $(echo x >/dev/null; wc -c </dev/null)
		echo zero $(head -c 3 /dev/zero | wc -c)
		echo random $(head -c 3 /dev/urandom | wc -c)
		echo stdin $(echo 1 | cat /dev/stdin)
		echo fds $(ls /proc/self/fd | wc -w)
		echo name $(grep -c "box$" /etc/hosts) $(cat /etc/hostname)
		echo group $(cat /proc/self/cgroup)
		echo $(grep CapEff /proc/self/status)
		# Some kernels have /proc/acpi, which is covered, too.
		echo mounts $(cut -d" " -f2 /proc/mounts |
			grep -vx /proc/acpi | head -n 9)'
	expect_ok
	expect_lines 'pid 1 host box umask 0022' \
		'root bin dev etc proc root sys tmp' \
		'dev core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero' \
		'write /' 'write /dev' 'write /dev/shm' 'write /tmp' \
		'masked 0' 'firmware' 'null 0' 'zero 3' 'random 3' 'stdin 1' \
		'fds 4' 'name 1 box' 'group 0::/' 'CapEff: 00000000a80425fb' \
		'mounts / /proc /dev /dev/pts /dev/mqueue /sys /sys/fs/cgroup /dev/shm /proc/interrupts'
	expect_nothing_left
}

test_privileged()
{
	make_root
	run --rm --privileged root sh -c '
		echo x >/proc/sys/kernel/hostname && mkdir /sys/fs/cgroup/x &&
		[ $(cat /proc/timer_list | wc -c) -gt 0 ] &&
		mkdir /m && mount -t tmpfs m /m && echo fine'
	expect_ok
	expect_lines fine
}

test_users()
{
	make_root
	rm root/etc/group
	mkfifo root/etc/group
	run --rm -u user -w /made/for/it --ulimit nofile=100:200 \
		--security-opt no-new-privileges root sh -c '
		echo $HOME $PWD $(ulimit -n) $(ulimit -Hn)
		echo $(grep -E "Uid|Gid|Groups|NoNew" /proc/self/status)
		cat /proc/sys/net/ipv4/ip_unprivileged_port_start
		touch /x 2>/dev/null || echo cannot write'
	expect_ok
	expect_lines '/home /made/for/it 100 200' \
		'Uid: 1000 1000 1000 1000 Gid: 1000 1000 1000 1000 Groups: 1000 NoNewPrivs: 1' \
		0 'cannot write'
	# The agent looks users up before crun is started.
	[ ${#how[@]} -eq 0 ] || return 0
	run --rm -u nobody root id
	expect_status 125
	expect_error nobody passwd
}

# Links of the root are followed inside of it, and nothing is made outside.
test_hostile_links()
{
	make_root
	mkdir root/etc2 data outside
	echo data >data/file
	mv root/etc/* root/etc2
	rmdir root/etc
	ln -s /etc2 root/etc
	ln -s "../../../../../../..$PWD/outside" root/mnt
	ln -s "$PWD/outside" root/opt
	ln -s /run/nothing/resolv.conf root/etc2/resolv.conf
	ln -s loop root/loop
	run --rm --dns 10.9.8.7 --hostname box -v "$PWD/data:/mnt" \
		-v "$PWD/data:/opt/deep/mount" root \
		sh -c 'cat /mnt/file /opt/deep/mount/file /etc/hostname
			cat /etc/resolv.conf'
	expect_ok
	expect_lines data data box 'nameserver 10.9.8.7'
	[ -z "$(ls -A outside)" ] || fail "something was made outside"
	[ ${#how[@]} -eq 0 ] || return 0
	run --rm -v "$PWD/data:/loop/x" root true
	expect_status 125
	expect_error /loop/x
	expect_nothing_left
}

test_mounts()
{
	make_root
	mkdir -p outer inner
	echo outer >outer/name
	echo inner >inner/name
	run --rm -v "$PWD/inner:/v/in:ro" -v "$PWD/outer:/v" \
		--tmpfs /run/t:size=64k,mode=700 --shm-size 128K \
		--sysctl net.ipv4.ip_forward=1 root sh -c '
		cat /v/name /v/in/name
		touch /v/in/x 2>/dev/null || echo read-only
		touch /v/x
		stat -c %a /run/t
		df -k /run/t /dev/shm | sed 1d | awk "{ print \$2 }"
		cat /proc/sys/net/ipv4/ip_forward'
	expect_ok
	expect_lines outer inner read-only 700 64 128 1
	[ -e outer/x ] || fail "the volume was not written"
	# The agent mounts a tmpfs before crun is started.
	[ ${#how[@]} -eq 0 ] || return 0
	run --rm --sysctl no.such.thing=1 root true
	expect_status 125
	expect_error no.such.thing
	run --rm --tmpfs /run:nonsense root true
	expect_status 125
	expect_error nonsense
	expect_nothing_left
}

# With --read-only, as with Docker, a container can write to file systems of its
# own, and not to the files of /etc, however they got there.
test_read_only()
{
	local writes='for f in /etc/hosts /etc/hostname /etc/resolv.conf /x /sys/x \
		/dev/x /dev/shm/x /t/x /v/x; do
		(echo x >>$f) 2>/dev/null && echo write $f; done; cat /etc/hostname'

	make_root
	mkdir data
	if [ ${#how[@]} -eq 0 ]; then
		run --rm --read-only --hostname box --dns 10.9.8.7 --tmpfs /t \
			-v "$PWD/data:/v" root sh -c "$writes"
		expect_ok
		expect_lines 'write /dev/x' 'write /dev/shm/x' 'write /t/x' \
			'write /v/x' box
	fi
	mv root/etc root/etc2
	ln -s etc2 root/etc
	run --rm --read-only --hostname box --dns 10.9.8.7 --tmpfs /t \
		-v "$PWD/data:/v" root sh -c "$writes"
	expect_ok
	expect_lines 'write /dev/x' 'write /dev/shm/x' 'write /t/x' \
		'write /v/x' box
	# These writes are possible without it.
	[ ${#how[@]} -eq 0 ] || return 0
	run --rm --hostname box --dns 10.9.8.7 root sh -c "$writes"
	expect_ok
	expect_lines 'write /etc/hosts' 'write /etc/hostname' \
		'write /etc/resolv.conf' 'write /x' 'write /dev/x' \
		'write /dev/shm/x' box x
}

# A --tmpfs is empty; it keeps the mode of a directory that exists, and belongs
# to root.
test_tmpfs()
{
	make_root
	mkdir -m 750 root/there
	echo image >root/there/file
	chown 1000:1000 root/there 2>/dev/null
	run --rm --tmpfs /there --tmpfs /new --tmpfs /set:mode=711,uid=5,gid=6 \
		--tmpfs /bin2:exec,size=8m --tmpfs /fixed:exec,ro root sh -c '
		stat -c "%n %a %u %g" /there /new /set
		ls -A /there /new
		for d in /new /bin2; do
			cp /bin/busybox $d/true && chmod 755 $d/true
			$d/true 2>/dev/null && echo exec $d || echo noexec $d
		done
		touch /fixed/x 2>/dev/null && echo write || echo ro
		for d in /there /new /set /bin2 /fixed; do
			sed -n "s|^tmpfs $d tmpfs \([^ ]*\) .*|\1|p" /proc/mounts |
				tr , "\n" | grep -xE "ro|nosuid|nodev|noexec" |
				sort | tr "\n" " "
			echo $d
		done'
	expect_ok
	# An old crun has a mode of its own there (docs/CONTAINERS).
	[ ${#how[@]} -eq 0 ] || sed -i 's|^/there 1777 |/there 750 |' out
	expect_lines '/there 750 0 0' '/new 1777 0 0' '/set 711 5 6' \
		/new: '' /there: 'noexec /new' 'exec /bin2' ro \
		'nodev noexec nosuid /there' 'nodev noexec nosuid /new' \
		'nodev noexec nosuid /set' 'nodev nosuid /bin2' \
		'nodev nosuid ro /fixed'
}

# More than one frame's worth of arguments, and the clock.
test_large_request()
{
	local before after told

	make_root
	before=$(date +%s)
	run --rm root sh -c 'echo ${#0} ${#1}; date +%s' \
		"$(head -c 100000 /dev/zero | tr '\0' x)" \
		"$(head -c 120000 /dev/zero | tr '\0' y)"
	after=$(date +%s)
	expect_ok
	[ "$(head -n 1 out)" = '100000 120000' ] || fail "arguments"
	told=$(tail -n 1 out)
	if [ "$told" -lt $((before - 1)) ] || [ "$told" -gt $((after + 1)) ]; then
		fail "the guest's clock said $told between $before and $after"
	fi
}

# The clock of the lab may be set, and a guest follows it.
test_clock_follows()
{
	in_lab || skip "sets the host's clock: only in the lab"
	need_root
	make_root
	run_start one --rm root sh -c 'echo up; a=$(date +%s); b=$a
		while [ $((b - a)) -lt 3000 ]; do sleep 0.1; b=$(date +%s); done
		echo later'
	wait_for one.out up
	sleep 1
	date -s "@$(($(date +%s) + 3600))" >/dev/null
	SECONDS=0
	wait_for one.out later
	date -s "@$(($(date +%s) - 3600))" >/dev/null
	guest_wait one
	expect_status 0
}

# Any node may be made, as with Docker; few lead anywhere. With crun these are
# crun's rules.
test_devices()
{
	local try='
		try() {
			rm -f /node
			mknod /node $2 $3 $4 || echo FAIL mknod $1
			if (exec 3<>/node) 2>/dev/null; then echo open $1
			elif (exec 3<>/node) 2>&1 | grep -q "not permitted"
			then echo denied $1
			else echo other $1
			fi
		}
		try null c 1 3; try zero c 1 5; try full c 1 7
		try random c 1 8; try urandom c 1 9; try ptmx c 5 2
		try mem c 1 1; try kmsg c 1 11; try hvc0 c 229 0
		try ttyS0 c 4 64; try fuse c 10 229; try vsock c 10 241
		try loop0 b 7 0; try vda b 254 0'

	make_root
	run --rm root sh -c "$try"
	expect_ok
	expect_lines 'open null' 'open zero' 'open full' 'open random' \
		'open urandom' 'other ptmx' 'denied mem' 'denied kmsg' \
		'denied hvc0' 'denied ttyS0' 'denied fuse' 'denied vsock' \
		'denied loop0' 'denied vda'
	if [ ${#how[@]} -eq 0 ]; then
		run --rm --cap-add SYS_ADMIN root sh -c "$try"
		expect_ok
		expect_out 'denied kmsg'
	fi
	run --rm --privileged root sh -c "$try"
	expect_ok
	expect_out 'open kmsg'
	expect_out 'open hvc0'
	expect_no_out denied
}

# Only crun's own rules allow these, see above.
test_devices_direct()
{
	make_root
	run --rm root sh -c 'mknod /tun c 10 200; mknod /console c 5 1
		(exec 3<>/tun) 2>&1; (exec 3<>/console) 2>&1'
	expect_status 1
	[ "$(grep -c 'not permitted' out)" -eq 2 ] || fail "one of them opened"
}

# The host does not take for the kernel's last words what the container writes
# to the kernel's log, or has the kernel repeat there.
test_forged_kill()
{
	make_root
	run --rm --privileged root sh -c '
		mknod /kmsg c 1 11
		text="Out of memory: Killed process 1 (x) total-vm:1kB"
		echo "$text" >/kmsg
		echo "<0>$text" >/kmsg
		echo "<3>Memory cgroup $text" >/kmsg
		mount -t tmpfs -o "$text" none /tmp 2>/dev/null
		dmesg | grep -c "Killed process"
		sleep 6'
	expect_ok
	[ "$(cat out)" -ge 3 ] || fail "it could not write there"
}

# start_bomb NAME OPTION...: a container that makes processes, and nothing else.
start_bomb()
{
	local name=$1

	shift
	# Among so many processes one waits long for its turn where turns are
	# short.
	LIMIT=$((4 * LIMIT))
	cp "$GUEST/guest" root/bin/guest
	run_start "$name" "$@" root sh -c 'guest bomb; sleep 1000'
	wait_for "$name.out" bomb
}

# With the default limit `exec` gets into a container full of processes, and
# `stop` ends it. The shell uses its own commands: there is no process left for
# a program.
test_fork_bomb()
{
	local look='read -r a </sys/fs/cgroup/pids.max
		read -r b </sys/fs/cgroup/pids.current; echo $a $b'

	need_small_kernel
	make_root
	start_bomb one -m 64M --rm
	for _ in $(seq 50); do
		bulkhead exec one sh -c "$look"
		expect_ok
		read -r max now <out
		[ "$now" -lt "$max" ] || break
	done
	[ "$max" -eq 128 ] || fail "the limit"
	[ "$now" -ge 128 ] || fail "it is no bomb"
	bulkhead stop -t 1 one
	expect_status 0
	guest_wait one
	expect_status 137
	expect_nothing_left
}

# Memory runs out before processes do: the agent has a reserve, still answers,
# and ends the container.
test_unlimited_bomb()
{
	need_small_kernel
	make_root
	start_bomb one -m 64M --rm --pids-limit -1
	wait_for one.err 'memory is short'
	bulkhead kill -s WINCH one
	expect_status 0
	bulkhead stop -t 1 one
	expect_status 0
	guest_wait one
	expect_status 137
	expect_nothing_left
}

# The kernel takes memory for processes out of the container's, and not out of
# what is kept for the agent.
test_many_processes()
{
	need_small_kernel
	make_root
	mkfifo root/tmp/never
	run_start one -m 64M --rm --pids-limit -1 root sh -c 'n=280
		while [ $n -gt 0 ]; do (read -r line </tmp/never) & n=$((n-1)); done
		echo all; sleep 1000'
	LIMIT=$((4 * LIMIT))
	wait_for one.out all
	bulkhead exec one cat /proc/meminfo
	expect_status 0
	[ "$(awk '/^MemAvailable/ { print $2 }' out)" -ge 2048 ] ||
		fail "the agent's memory is used up"
	bulkhead kill one
	expect_status 0
	guest_wait one
	expect_status 137
	expect_nothing_left
}

test_pids_limit()
{
	make_root
	run --rm --pids-limit 5 root sh -c 'cat /sys/fs/cgroup/pids.max
		for i in 1 2 3 4 5; do sleep 1000 & done; echo never'
	expect_status 2
	[ "$(cat out)" = 5 ] || fail "there were more"
	grep -q fork err || fail "no word of fork()"
	# crun is told no other kind of number.
	[ ${#how[@]} -eq 0 ] || return 0
	run --rm --pids-limit 0 root cat /sys/fs/cgroup/pids.max
	expect_ok
	expect_lines max
	for limit in -2 1.5 99999999; do
		run --rm --pids-limit "$limit" root true
		expect_status 125
		expect_error --pids-limit "$limit"
	done
	expect_nothing_left
}

# A container that may mount sees its own group and those below, and may divide
# it, but its own limits are not its to change.
test_own_limits()
{
	make_root
	run --rm --cap-add SYS_ADMIN --pids-limit 50 root sh -c '
		mkdir /tmp/c && mount -t cgroup2 none /tmp/c || exit 3
		cat /tmp/c/pids.max
		echo max >/tmp/c/pids.max && echo changed pids.max
		echo max >/tmp/c/memory.max && echo changed memory.max
		mkdir /tmp/c/below && echo may divide'
	expect_status 0
	[ "$(cat out)" = "50
may divide" ] || fail "it changed its limits, or could do nothing"
	expect_nothing_left
}

# A process of the container may look into any other one there, and never finds
# anything of the agent's in what exec makes.
test_spy()
{
	make_root
	cp "$GUEST/guest" root/bin/guest
	run_start one --rm --cap-add SYS_PTRACE root \
		sh -c 'exec 3</dev/null; guest spy:8; exit 0'
	wait_for one.out spying
	for _ in 1 2 3 4 5 6 7 8; do
		bulkhead exec one true
		[ "$status" -eq 0 ] || break
	done
	guest_wait one
	expect_ok
	expect_no_out saw
	[ "$(fact looks)" -gt 10 ] || fail "it has not looked"
}

test_init_reaps()
{
	make_root
	# pidof finds zombies, too.
	run --rm --init root sh -c '
		sh -c "sleep 1000 & sleep 1000 &"
		until [ "$(pidof sleep | wc -w)" -eq 2 ]; do :; done
		killall sleep
		while pidof sleep; do :; done >/dev/null
		echo $$; exit 5'
	expect_status 5
	expect_silence
	expect_lines 2
}

# The command runs in a group with little memory: a whole machine takes minutes
# to run out on slow hosts.
test_no_memory()
{
	make_root
	run --rm --privileged root sh -c '
		cd /sys/fs/cgroup && mkdir small &&
		echo 0 >small/cgroup.procs &&
		echo +memory >cgroup.subtree_control &&
		echo 16M >small/memory.max &&
		exec awk "BEGIN { while (1) a[i++] = i }"'
	expect_status 137
	expect_error 'the command was killed for lack of memory' --memory
}

# The warning comes once, and nothing else happens; page cache does not count.
# The memory stays in use until the warning is there; nothing starts meanwhile,
# as a guest without memory takes minutes for that in the lab.
test_memory_short()
{
	need_small_kernel
	make_root
	head -c 40000000 /dev/zero >root/large
	run_start one --rm --memory 64m --shm-size 100m root sh -c '
		cat /large | wc -c
		n=$(sed -n "s/^MemAvailable: *\([0-9]*\) kB/\1/p" /proc/meminfo)
		[ "$n" -gt 20000 ] || echo FAIL $n
		sleep 5
		echo before >&2
		trap ": >/dev/shm/x; sleep 2; echo fine; exit 0" USR1
		sleep 1000 &
		head -c $((n - 3000))k /dev/zero >/dev/shm/x
		wait'
	wait_for one.err 'memory is short'
	kill -USR1 "$(guest_pid one)"
	guest_wait one
	expect_status 0
	expect_lines 40000000 fine
	[ "$(head -n 1 err)" = before ] || fail "told too early"
	sed -i 1d err
	expect_error 'memory is short' --memory
	expect_nothing_left
}

# A process of the container's other than its first one; in the background.
test_process_killed()
{
	make_root
	bulkhead run -d --name one --network none --privileged root sh -c '
		cd /sys/fs/cgroup && mkdir small &&
		echo 0 >small/cgroup.procs &&
		echo +memory >cgroup.subtree_control &&
		echo 16M >small/memory.max &&
		awk "BEGIN { while (1) a[i++] = i }"
		echo status $?
		exec sleep 1000'
	expect_ok
	"$BULKHEAD" logs -f one >one.out 2>one.err &
	wait_for one.err 'lack of memory'
	wait_for one.out 'status 137'
	bulkhead kill one
	wait $!
	bulkhead logs one
	sed -i /^Killed$/d err # the shell's
	expect_error 'a process was killed for lack of memory'
	bulkhead rm one
	expect_nothing_left
}

# Several commands run at the same time, each with its own input and status.
test_many_sessions()
{
	local i sessions=()

	make_root
	run_start many --rm root sh -c 'echo up; exec sleep 1000'
	wait_for many.out up
	for i in 1 2 3 4 5 6 7 8; do
		(
			head -c $((i * 50000)) /dev/zero |
				"$BULKHEAD" exec -i many \
					sh -c "wc -c; exit $i" >exec.$i
			echo $? >>exec.$i
		) &
		sessions+=($!)
	done
	wait "${sessions[@]}"
	for i in 1 2 3 4 5 6 7 8; do
		[ "$(tr '\n' ' ' <exec.$i)" = "$((i * 50000)) $i " ] ||
			fail "session $i: $(cat exec.$i)"
	done
	bulkhead exec many sh -c 'yes | head -n 100000' </dev/null
	[ "$(wc -l <out)" -eq 100000 ] || fail "output of exec"
	bulkhead exec -u user -w /tmp many sh -c 'echo $(id -u) $PWD; ps | wc -l'
	expect_out '1000 /tmp'
	bulkhead exec many nothing
	expect_status 127
	bulkhead stop -t 0 many
	expect_status 0
	guest_wait many
	expect_status 137
	expect_nothing_left
}
