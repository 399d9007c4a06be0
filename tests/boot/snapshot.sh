# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Machines that are saved while they work, and go on from there, once or more
# often. tests/devices/ has what each device brings along. Guests power
# off at their end: in the lab, QEMU looks for a TSS that is not busy where a
# program writes to a port by ioperm(2), and KVM's TR, once loaded, is.

. "$TOP/tests/boot/net-lib.sh"

# ask COMMAND ARGUMENT...: of a machine; sets status, out, err.
ask()
{
	command="bulkhead $*"
	status=0
	timeout -k 5 "$LIMIT" "$BULKHEAD" "$@" >out 2>err </dev/null ||
		status=$?
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
}

# saved NAME ACTIONS [OPTION]...: starts NAME and saves it in snap/ while it
# stands still, with copies of its disks as *.then, between its ticks.
saved()
{
	local name=$1 disk

	guest_start "$@" --control ./control
	wait_for "$name.out" 'tick 2'
	ask pause control
	expect_status 0
	expect_silence
	for disk in *.img; do
		[ ! -e "$disk" ] || cp --sparse=always "$disk" "$disk.then"
	done
	ask snapshot ./control snap
	expect_status 0
	expect_silence
	ask resume control
	expect_status 0
}

# restored NAME OPTION...: what was saved goes on in the background.
restored()
{
	local name=$1

	shift
	command="bulkhead restore $* snap"
	timeout -k 5 "$LIMIT" "$BULKHEAD" restore "$@" snap \
		>"$name.out" 2>"$name.err" </dev/null &
	running["$name"]=$!
}

# killed NAME: the machine that was saved ends.
killed()
{
	kill "$(guest_pid "$1")"
	guest_wait "$1"
}

# Disk, console, random numbers, two CPUs and the clock. Both it and the one it
# was saved from come to their end.
test_goes_on()
{
	local tick

	truncate -s 8M disk.img
	saved vm 'write:vda:0:2M:5,ticks:12:200,check:vda:0:2M:5,write:vda:2M:1M:6,rng,cpus:2,poweroff' \
		--cpus 2 --disk disk.img
	guest_wait vm
	expect_status 0
	expect_out 'tick 11'
	[ ! -e control ] || fail "the socket is still there"
	# Time that passes here does not pass in there.
	sleep 4
	restored again --disk disk.img.then
	guest_wait again
	expect_status 0
	expect_silence
	expect_no_out FAIL
	expect_no_out 'tick 1'$'\n'
	expect_out 'tick 11'
	[ "$(fact longest)" -lt 4000 ] || is_slow ||
		fail "the clock jumped by $(fact longest) ms"
}

# Two at the same time, and one that is saved again.
test_more_than_one()
{
	saved vm 'ticks:40:200,poweroff'
	killed vm
	restored one
	restored two --control ./two.sock --name two
	wait_for two.out 'tick '
	ask snapshot two.sock snap2
	expect_status 0
	guest_wait one
	expect_status 0
	guest_wait two
	expect_status 0
	mv snap snap1
	mv snap2 snap
	restored three --verify
	guest_wait three
	expect_status 0
	expect_no_out 'tick 5'$'\n'
	expect_out 'tick 39'
}

# Guests of one snapshot draw other random numbers from the first one on, though
# the process that draws them was asleep when it was saved; so does the machine
# that was saved.
test_random_numbers()
{
	local name draw first=()

	saved vm 'draws:100000:1'
	restored one
	restored two
	for name in one two; do
		wait_until grep -qE 'drew [0-9a-f]{32}' "$name.out" ||
			fail "$name drew nothing"
		first+=("$(grep -m 1 '^tick .* drew ' "$name.out")")
	done
	[ "${first[0]% *}" = "${first[1]% *}" ] ||
		fail "they do not begin with the same: ${first[*]}"
	[ "${first[0]}" != "${first[1]}" ] || fail "both: ${first[0]}"
	wait_for vm.out "${first[0]% *}"
	for draw in "${first[@]}"; do
		! grep -qxF "$draw" vm.out || fail "the saved one, too: $draw"
	done
	for name in one two vm; do
		killed "$name"
		expect_silence
	done
}

# behind NAME: sets `at` to what its clock shows, `lag` to how far that is behind
# the host's, at most. A guest's clock may be wrong by seconds from its start on
# a host that is busy enough.
behind()
{
	wait_until grep -qE 'at [0-9]+' "$1.out" || fail "$1 is not there"
	at=$(grep -E 'at [0-9]+' "$1.out" | tail -n 1)
	at=${at##* }
	lag=$((EPOCHSECONDS - ${at%$'\r'}))
}

# The clock goes on from where it was saved, or, by --clock-realtime, from now,
# whatever the guest counts by.
test_clock()
{
	local source at lag
	local -A before=()

	for source in tsc kvm-clock; do
		saved vm "walls:$source:3000:200"
		behind vm
		before[$source]=$lag
		killed vm
		mv snap "$source"
	done
	sleep 12
	for source in tsc kvm-clock; do
		mv "$source" snap
		restored late
		behind late
		killed late
		[ "$lag" -ge $((before[$source] + 7)) ] ||
			fail "$source: $lag s behind, ${before[$source]} before"
		restored now --clock-realtime
		behind now
		killed now
		((lag <= before[$source] + 7)) || is_slow ||
			fail "$source: $lag s behind, ${before[$source]} before"
		((lag >= before[$source] - 7)) || is_slow ||
			fail "$source: $lag s behind, ${before[$source]} before"
		rm -rf snap
	done
}

# The serial port, and what is typed after it went on.
test_serial()
{
	saved vm 'ticks:8:200,read,poweroff' --console serial
	killed vm
	command="bulkhead restore snap"
	status=0
	echo typed | timeout -k 5 "$LIMIT" "$BULKHEAD" restore snap >out 2>err ||
		status=$?
	expect_status 0
	expect_out "got [typed]"
}

# A share that is mounted, with its files: the same directory, where it has been
# moved to, too; not a copy, whose files are others.
test_share()
{
	mkdir share
	saved vm 'mount:t:/mnt,put:/mnt/before:one,ticks:12:200,text:/mnt/before:one,put:/mnt/after:two,posix:/mnt:locks,poweroff' \
		--share share,tag=t
	killed vm
	[ ! -e share/after ] || fail "the first one got as far"
	cp -r share copy
	ask restore snap
	expect_ok
	[ "$(cat share/after)" = two ] || fail "its file is not there"
	rm -r share/after share/locks
	mv share moved
	ask restore --share moved,tag=t snap
	expect_ok
	[ "$(cat moved/after)" = two ] || fail "its file is not where it moved"
	ask restore --share copy,tag=t snap
	expect_status 2
	expect_error 'another directory'
}

# A tap, another one, and a stream over it after the start.
network()
{
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	ip link set lo up
	tap=bht0
	"$GUEST/guest" "tap:$tap:10.99.1.1:1500" >host.out ||
		skip "no tap can be made: $(cat host.out)"
	saved vm "net:eth0:10.99.1.2,ping:10.99.1.1:2:56,ticks:12:200,\
nic:eth0:address:02-00-00-00-be-ef,ping:10.99.1.1:3:1400,send:10.99.1.1:5001:4M,poweroff" \
		--net "tap=$tap,mac=02:00:00:00:be:ef"
	killed vm
	"$GUEST/guest" untap:bht0 >/dev/null
	tap=bht9
	"$GUEST/guest" "tap:$tap:10.99.1.1:1500" >host.out ||
		fail "no second tap: $(cat host.out)"
	"$GUEST/guest" serve:5001:4M >host.out &
	ask restore --net "tap=$tap" snap
	expect_ok
	wait $! || fail "the host's end: $(cat host.out)"
}

test_network()
{
	on_own_net network
}

# A stream that was open is over, as the guest learns, and others are made.
test_vsock()
{
	local server

	saved vm 'ticks:12:200,sock-echo:1024:4:300K,poweroff' --vsock v.sock
	killed vm
	timeout -k 5 "$LIMIT" "$GUEST/guest" sock-serve:./w.sock_1024:4 \
		>server.out 2>&1 &
	server=$!
	wait_for server.out listening
	ask restore --vsock w.sock snap
	expect_ok
	wait "$server" || fail "the host's end: $(cat server.out)"
}

# saved_live DIR: the machine at ./control
saved_live()
{
	ask snapshot --live ./control "$1"
	expect_status 0
	grep -q 'stood still for [0-9.]* ms$' out ||
		fail "it does not say how long it stood still"
}

# swept_live NAME DIR: the same with one that sweeps, which goes on and ends
swept_live()
{
	local began

	saved_live "$2"
	began=$(grep -c sweep "$1.out")
	wait_until sweeps "$1" $((began + 2)) || fail "it does not go on"
	killed "$1"
	expect_silence
	expect_no_out FAIL
}

# A guest that writes to all of its memory, in order and without end, is saved
# meanwhile: what goes on finds its memory of one instant. So does one that is
# restored from that, and saved live itself; its memory is partly the file's.
test_live()
{
	guest_start vm 'sweep:16M:1000000,poweroff' --memory 96M --cpus 2 \
		--control ./control
	wait_for vm.out 'sweep 3'
	swept_live vm snap
	restored again --verify --control ./control
	wait_for again.out 'sweep '
	swept_live again snap2
	rm -r snap
	mv snap2 snap
	restored last
	wait_until sweeps last 2 || fail "it does not go on"
	killed last
	expect_silence
	expect_no_out FAIL
}

# kib: of memory, as `bulkhead snapshot` said
kib()
{
	sed -n 's/.*: \([0-9]*\) KiB of memory.*/\1/p' out
}

# A machine that was restored is saved onto a copy of its snapshot, which needs
# the other one no more; another one than that is refused.
test_base()
{
	local all

	guest_start vm 'sweep:16M:1000000,poweroff' --memory 96M \
		--control ./control
	wait_for vm.out 'sweep 2'
	ask snapshot ./control snap
	expect_status 0
	all=$(kib)
	ask snapshot --base snap ./control snap2
	expect_status 1
	expect_error "'snap': not the snapshot that './control' was started from"
	killed vm
	restored again --control ./control
	wait_for again.out 'sweep '
	ask snapshot --live --base snap ./control snap2
	expect_status 0
	[ "$(kib)" -lt "$all" ] || fail "all of it was written: $(kib) KiB"
	ask snapshot --base snap2 ./control snap3
	expect_status 1
	expect_error "'snap2': not the snapshot"
	ask snapshot --base nosnap ./control snap3
	expect_status 1
	expect_error "'nosnap/state'" 'No such file'
	cp -r --sparse=always snap mixed
	cp --sparse=always snap2/memory mixed/memory
	ask snapshot --base mixed ./control snap3
	expect_status 1
	expect_error "'mixed/memory'" 'of another snapshot'
	! compgen -G 'snap3*' || fail "something is left"
	killed again
	expect_silence
	expect_no_out FAIL
	rm -r snap mixed
	mv snap2 snap
	restored last --verify
	wait_until sweeps last 2 || fail "it does not go on"
	killed last
	expect_silence
	expect_no_out FAIL
}

# A machine that booted is saved with all of its memory, and then with what has
# changed since the last save, again and again: each is whole, and none needs
# another one. Its memory stays what it is, in whichever of them it lies.
test_track()
{
	local all i

	guest_start vm 'fill:48M,sweep:4M:1000000,poweroff' --memory 96M \
		--control ./control
	wait_for vm.out 'sweep 2'
	ask snapshot --track ./control snap0
	expect_status 0
	all=$(kib)
	for i in 0 1; do
		wait_until sweeps vm $((i + 4)) || fail "it does not go on"
		ask snapshot --track --base "snap$i" ./control "snap$((i + 1))"
		expect_status 0
		[ "$(kib)" -lt $((all / 2)) ] ||
			fail "$(kib) KiB were written, $all at first"
		rm -r "snap$i"
	done
	ask snapshot --base snap1 ./control snap4
	expect_status 1
	expect_error "'snap1/state'" 'No such file'
	ask snapshot ./control full
	expect_status 0
	[ "$(kib)" -ge $((all / 2)) ] || fail "not all of it: $(kib) KiB"
	ask snapshot --base full ./control snap4
	expect_status 1
	expect_error "'full': not the snapshot" 'with --track'
	ask snapshot --live --base snap2 ./control snap4
	expect_status 0
	ask snapshot --live --track ./control snap5
	expect_status 2
	expect_error '--track: not together with --live'
	! compgen -G 'snap5*' || fail "something is left"
	# Its memory is a file that has no name then.
	rm -r snap2
	wait_until sweeps vm $(($(grep -c sweep vm.out) + 2)) ||
		fail "it does not go on"
	killed vm
	expect_silence
	expect_no_out FAIL
	for i in full snap4; do
		rm -rf snap
		mv "$i" snap
		restored last --verify
		wait_until sweeps last 2 || fail "$i: it does not go on"
		killed last
		expect_silence
		expect_no_out FAIL
	done
}

# A machine in huge pages is told why it cannot be tracked.
test_track_hugetlb()
{
	local before pages=/proc/sys/vm/nr_hugepages

	before=$(cat "$pages")
	# shellcheck disable=SC2064 # as it is now
	trap "echo $before >$pages" EXIT
	echo 32 >"$pages"
	[ "$(cat "$pages")" -ge 32 ] || skip "the host gives no huge pages"
	guest_start vm 'ticks:600:100,poweroff' --memory 64M --hugetlb \
		--control ./control
	wait_for vm.out 'tick 2'
	ask snapshot --track ./control snap
	expect_status 1
	expect_error 'its RAM is in huge pages (--hugetlb)'
	! compgen -G 'snap*' || fail "something is left"
	killed vm
}

# swept_compressed: a machine that sweeps is saved live and compressed in snap/.
swept_compressed()
{
	guest_start vm 'sweep:16M:1000000,poweroff' --memory 96M --cpus 2 \
		--control ./control
	wait_for vm.out 'sweep 3'
	ask snapshot --live --compress ./control snap
	expect_status 0
	grep -q ', compressed to [0-9]*; the guest' out ||
		fail "it does not say how small it is"
	[ "$(stat -c %s snap/memory)" -lt $(($(kib) * 512)) ] ||
		fail "it is not half as large"
	killed vm
}

# Its memory comes as it is touched; it is saved again, with what was not, to a
# directory of its own. A second one has it brought in ahead.
test_compressed()
{
	swept_compressed
	restored again --verify --control ./control --log-level debug
	wait_for again.out 'sweep '
	wait_for again.err 'working set: recorded'
	ask snapshot --base snap ./control snap2
	expect_status 1
	expect_error "'snap': compressed"
	swept_live_again snap2
	restored more --log-level debug
	wait_for more.err 'working set: resident'
	wait_until sweeps more 2 || fail "it does not go on"
	killed more
	rm -r snap
	mv snap2 snap
	restored last
	wait_until sweeps last 2 || fail "it does not go on"
	killed last
	expect_silence
	expect_no_out FAIL
}

# swept_live_again DIR: as swept_live, with one that says much
swept_live_again()
{
	local began

	saved_live "$1"
	began=$(grep -c sweep again.out)
	wait_until sweeps again $((began + 2)) || fail "it does not go on"
	killed again
	expect_no_out FAIL
}

# A chunk that is damaged ends the machine when it is touched. Where the host
# allows no userfaultfd, all is read before the start.
test_compressed_damaged()
{
	swept_compressed
	cp -r snap bad
	head -c 65536 /dev/zero | dd of=bad/memory bs=4096 seek=1 conv=notrunc \
		status=none
	ask restore --verify bad
	expect_status 2
	expect_error 'the memory is damaged, at '
	ask restore bad
	expect_status 3
	expect_error "'bad/memory': damaged, in the memory at"
	truncate -s -1 bad/memory
	ask restore bad
	expect_status 2
	expect_error "'bad/memory': damaged or cut off"

	cat >without <<-'END'
	[ ! -e /dev/userfaultfd ] || mount --bind /dev/null /dev/userfaultfd
	exec setpriv --bounding-set=-sys_ptrace "$@"
	END
	unshare -m bash without timeout -k 5 "$LIMIT" "$BULKHEAD" restore snap \
		>slow.out 2>slow.err </dev/null &
	running[slow]=$!
	wait_until sweeps slow 2 || fail "it does not go on"
	killed slow
	expect_error "'snap/memory': all of it is read before the start"
	expect_no_out FAIL
}

# served [COUNT]: a memory server has plain/memory, for one machine.
served()
{
	timeout -k 5 "$LIMIT" "$GUEST/page-server" ./pages plain/memory "$@" \
		>server.out 2>&1 &
	server=$!
	wait_for server.out listening
}

# A process has the memory, and the snapshot's directory has none. It is saved
# with what nobody has touched. It ends with its server.
test_memory_server()
{
	local server

	guest_start vm 'sweep:16M:1000000,poweroff' --memory 96M \
		--control ./control
	wait_for vm.out 'sweep 3'
	ask snapshot --live ./control snap
	expect_status 0
	killed vm
	mkdir plain
	mv snap/memory plain
	served
	restored again --memory-server ./pages --control ./control
	wait_until sweeps again 2 || fail "it does not go on"
	grep -q '"page_size":4096' server.out || fail "no regions came"
	ask snapshot --base snap ./control snap2
	expect_status 1
	swept_live again snap2
	wait "$server" || fail "the server: $(cat server.out)"

	# With RAM that is mapped from a snapshot's file it needs none any more.
	served
	restored again --memory-server ./pages --control ./control
	wait_until sweeps again 2 || fail "it does not go on"
	ask snapshot --track ./control snap3
	expect_status 0
	wait "$server" || fail "it keeps its server: $(cat server.out)"
	wait_until sweeps again $(($(grep -c sweep again.out) + 2)) ||
		fail "it does not go on"
	ask snapshot --track --base snap3 ./control snap4
	expect_status 0
	killed again
	expect_silence
	expect_no_out FAIL
	rm -r snap3 snap4

	# One that lives and does not answer keeps nobody from ending it.
	served
	kill -STOP "$(pgrep -P "$server")"
	restored stuck --memory-server ./pages
	sleep 2
	PAUSE=1 wait_until tells stuck || fail "it waits for ever"
	guest_wait stuck
	case $status in
	3) expect_error "'./pages': told to end while the memory server" ;;
	*) expect_status 143 ;;
	esac
	kill -KILL "$(pgrep -P "$server")"
	wait "$server" && fail "the server ended by itself"

	served 100
	ask restore --memory-server ./pages snap
	expect_status 3
	expect_error "'./pages': the memory server has ended"
	wait "$server" || fail "the server: $(cat server.out)"
	ask restore --memory-server ./pages snap
	expect_status 3
	expect_error "memory server: './pages'" 'refused'
	rm -r snap
	mv snap2 snap
	restored last --verify
	wait_until sweeps last 2 || fail "it does not go on"
	killed last
	expect_silence
	expect_no_out FAIL
}

# tells NAME: it is told to end, again; true: it has
tells()
{
	! kill -TERM "$(guest_pid "$1")" 2>/dev/null
}

# sweeps NAME N: so many rounds are done.
sweeps()
{
	[ "$(grep -c sweep "$1.out")" -ge "$2" ] || has_come "$1.out" FAIL
}

# A caller that is told to end leaves nothing, and the machine goes on.
test_interrupted()
{
	local pid monitor i

	guest_start vm 'fill:300M,ticks:600:100,poweroff' --memory 512M \
		--control ./control
	wait_for vm.out 'tick 2'
	for i in '' --live '' --live; do
		"$BULKHEAD" snapshot $i control snap >out 2>err </dev/null &
		pid=$!
		wait_until compgen -G 'snap.*' >/dev/null || fail "no snapshot"
		kill -TERM "$pid"
		wait "$pid" && fail "it was saved before it was told to end"
		! compgen -G 'snap*' || fail "something is left"
	done
	: >vm.out
	wait_for vm.out 'tick '
	# The process that writes its memory ends with the machine, too.
	"$BULKHEAD" snapshot --live control snap >out 2>err </dev/null &
	pid=$!
	wait_until has_bytes 'snap.*/memory' || fail "no memory is written"
	monitor=$(guest_pid vm)
	kill -KILL "$monitor"
	wait "$pid" && fail "it was saved after the machine was killed"
	expect_error 'ended before it answered'
	! compgen -G 'snap*' || fail "something is left"
	wait_until gone "bulkhead boot.*control ./control" ||
		fail "its process is left"
	wait "${running[vm]}"
	unset 'running[vm]'
}

# has_bytes PATTERN: of a file
has_bytes()
{
	local file

	file=$(compgen -G "$1") && [ -s "$file" ]
}

# gone TEXT: no process has this in its command line
gone()
{
	! pgrep -f "$1" >/dev/null
}

# The first start records what it touches; the next one brings that in, and no
# more: its memory stays far below the machine's. A record that is no good is
# said, and made again.
test_working_set()
{
	local before kib

	saved vm 'fill:100M,ticks:40:200,fill:20M,poweroff' --memory 256M
	killed vm
	restored vm --no-working-set
	wait_for vm.out 'tick '
	killed vm
	[ ! -e snap/working-set ] || fail "it was recorded"
	restored vm --log-level debug
	wait_for vm.err 'working set: recorded'
	killed vm
	[ "$(stat -c %a snap/working-set)" = 600 ] || fail "others can read it"
	before=$(md5sum <snap/working-set)
	restored vm --log-level debug
	wait_for vm.err 'working set: resident'
	wait_for vm.out 'tick '
	kib=$(awk '$1 == "VmRSS:" { print $2 }' \
		"/proc/$(guest_pid vm)/status")
	[ "$kib" -lt 65536 ] || fail "$kib KiB are there"
	guest_wait vm
	expect_status 0
	expect_out 'ok fill'
	expect_no_out FAIL
	[ "$(md5sum <snap/working-set)" = "$before" ] || fail "it is another"

	# It ends with the machine, long before its time.
	restored vm --record 3600 --log-level debug
	wait_for vm.out 'tick '
	killed vm
	grep -q 'working set: recorded' err || fail "nothing was recorded"
	[ "$(md5sum <snap/working-set)" != "$before" ] || fail "it is the same"

	printf 'x' | dd of=snap/working-set bs=1 seek=60 conv=notrunc status=none
	restored vm
	wait_for vm.out 'tick '
	killed vm
	expect_error "'snap/working-set': damaged: not used"
	restored vm --log-level debug
	wait_for vm.err 'working set: resident'
	killed vm

	ask restore --record 0 snap
	expect_status 2
	expect_error "--record '0'"
	ask restore --record 1 --no-working-set snap
	expect_status 2
	expect_error '--no-working-set'
}

# Not a whole snapshot, not of this machine, or none that can be made.
test_refused()
{
	truncate -s 1M disk.img
	saved vm 'ticks:600:200' --disk disk.img
	ask snapshot control snap
	expect_status 1
	expect_error "'snap'" 'is there already'
	ask snapshot control nowhere/snap
	expect_status 1
	expect_error "'nowhere/snap'" 'No such file'
	ask pause control
	ask pause control
	expect_status 1
	expect_error 'is paused'
	ask resume control
	ask resume control
	expect_status 1
	expect_error 'it runs'
	killed vm
	ask snapshot ./control snap2
	expect_status 1
	expect_error "'./control'" 'No such file'
	[ ! -e snap2 ] || fail "snap2 is there"
	set -- snap2.*
	[ ! -e "$1" ] || fail "$1 is left"

	ask restore nosnap
	expect_status 2
	expect_error "'nosnap/state'" 'No such file'
	ask restore snap --disk disk.img
	expect_status 2
	ask restore --net user snap
	expect_status 2
	expect_error "--net 'user'" 'no device'
	cp -r --sparse=always snap bad
	truncate -s -4096 bad/memory
	ask restore bad
	expect_status 2
	expect_error 'bad/memory' 'cut off'
	cp --sparse=always snap/memory bad/memory
	printf '\377' | dd of=bad/memory bs=1 seek=1048576 conv=notrunc \
		status=none
	ask restore --verify bad
	expect_status 2
	expect_error 'damaged'
	cp --sparse=always snap/memory bad/memory
	printf 'x' | dd of=bad/state bs=1 seek=2000 conv=notrunc status=none
	ask restore bad
	expect_status 2
	expect_error 'bad/state' 'damaged'
	printf '\377' | dd of=bad/state bs=1 seek=8 conv=notrunc status=none
	ask restore bad
	expect_status 2
	expect_error 'version 255'
	truncate -s 20 bad/state
	ask restore bad
	expect_status 2
	expect_error 'not a snapshot'
}

# docs/STARTUP as it stands: its first machine is in the background, and the
# second one is told to end.
test_document()
{
	local line pty monitor commands=()

	export PATH=${BULKHEAD%/*}:$PATH BULKHEAD_KERNEL=$KERNEL
	export BULKHEAD_STORE=$PWD/store BULKHEAD_RUNTIME_DIR=$PWD/instances
	mapfile -t commands < <("$TOP/tests/doc-commands" "$TOP/docs/STARTUP")
	[ "${#commands[@]}" -ge 3 ] || fail "it has no commands"
	mkdir -p root/bin root/sbin root/dev root/proc root/sys
	cp /bin/busybox root/bin/
	install -m 755 "$TOP/docs/first-init" root/sbin/init
	truncate -s 64M root.img
	mke2fs -q -t ext4 -d root root.img
	for line in "${commands[@]}"; do
		# A hundred runs of all that is installed take a reader's time.
		line=${line/#bulkhead bench startup/bulkhead bench startup -n 1 \
			--only bulkhead}
		command=$line
		case $line in
		'bulkhead boot '*)
			timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' \
				'expect=never' -- bash -c "$line" >vm.out \
				2>vm.err </dev/null &
			running[vm]=$!
			wait_for vm.out '# '
			;;
		'bulkhead restore snap')
			timeout -k 5 "$LIMIT" "$GUEST/pty" 'type=exit\r' -- \
				bash -c "$line" >out 2>err || fail "$line"
			;;
		*)
			bash -c "$line" >out 2>err </dev/null || fail "$line"
			;;
		esac
		echo "ok: $line"
	done
	pty=$(guest_pid vm)
	read -r monitor _ <"/proc/$pty/task/$pty/children"
	kill "$monitor"
	wait "${running[vm]}"
	unset 'running[vm]'
	[ ! -e vm.sock ] || fail "the socket is still there"
}
