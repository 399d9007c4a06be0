# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Machines that go on from a template instead of booting. Others' tests boot
# theirs (run-lib.sh), unless BULKHEAD_TEST_TEMPLATES has them do the same.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/net-lib.sh"
export BULKHEAD_STORE=$PWD/store BULKHEAD_TEMPLATES=1G

# templates: how many there are
templates()
{
	"$BULKHEAD" template --quiet | wc -l
}

# expect_templates N
expect_templates()
{
	[ "$(templates)" -eq "$1" ] || fail "$(templates) templates, not $1"
}

# warm ARGUMENT...: a run that goes on from a template; `err` is left empty.
warm()
{
	run_logged 'map saved memory' "it has booted" "$@"
}

# make_templates: of the machine of `run root`
make_templates()
{
	make_root
	bulkhead template make --network none root
	expect_status 0
	expect_templates 1
}

# The first run makes it, the next ones go on from there: same output, status,
# input, terminal and files as after a boot.
test_run()
{
	make_root
	run --rm root sh -c 'echo first; exit 3'
	expect_status 3
	expect_silence
	expect_templates 1
	warm root sh -c 'echo second; exit 4'
	expect_status 4
	expect_out second
	command="bulkhead run -i"
	echo input | "$BULKHEAD" run --rm -i --network none root cat >out ||
		fail "cat failed"
	expect_out input
	# shellcheck disable=SC2016 # for the guest
	warm --user user --workdir /tmp --env A=B --hostname host root \
		sh -c 'id -un; pwd; echo $A; hostname; cat /etc/hostname'
	expect_status 0
	expect_out "user
/tmp
B
host
host"
	[ -n "$(find store -name working-set -size +0)" ] ||
		fail "nothing was recorded"
	# shellcheck disable=SC2016
	warm --init root sh -c 'cat /proc/1/comm; kill -9 $$'
	expect_status 137
	expect_templates 1
	expect_nothing_left
}

# A container of an image is in a template of its own from the second warm start
# on: same output, names, files, user and limits as of one that is made anew.
test_image()
{
	make_root
	mkdir root/etc/old
	make_archive box.tar
	run --rm --hostname one box.tar one
	expect_status 0
	expect_out "says one"
	expect_templates 1
	# This one is recorded, the next one makes the second template.
	warm test:1 two
	expect_out "says two"
	expect_templates 1
	warm --hostname three --entrypoint sh test:1 -c 'hostname; cat /etc/hostname'
	expect_out "three
three"
	expect_templates 2
	# shellcheck disable=SC2016 # for the guest
	warm --hostname four --add-host far:10.9.8.7 --env A=B -u user \
		--entrypoint sh test:1 -c '
		hostname; cat /etc/hostname; grep four /etc/hosts
		grep far /etc/hosts; id -un; pwd; echo $A $FROM $HOSTNAME
		ls -d /etc/old; echo $$; cat /proc/1/comm; exit 0'
	expect_status 0
	expect_out "four
four
127.0.1.1	four
10.9.8.7 far
user
/tmp
B image four
/etc/old
1
sh"
	expect_templates 2
	# Its changes are its own.
	warm --entrypoint sh test:1 -c 'echo new >/etc/old/new; rm /bin/cat'
	warm --entrypoint sh test:1 -c 'ls /etc/old; ls /bin/cat'
	expect_out /bin/cat
	# Another container has another one, or the first one.
	warm --read-only --tmpfs /run:size=1m --entrypoint sh test:1 -c '
		hostname >/tmp/x || echo read-only; df /run | tail -n 1'
	grep -q read-only out || fail "not read-only"
	expect_templates 2
	# Exit statuses, input, a missing program.
	echo input >in
	command="bulkhead run -i"
	"$BULKHEAD" run --rm -i --network none --entrypoint cat test:1 <in >out ||
		fail "cat failed"
	expect_out input
	# shellcheck disable=SC2016
	warm --init --entrypoint sh test:1 -c 'kill -9 $$'
	expect_status 137
	run --rm --entrypoint missing test:1
	expect_status 127
	expect_templates 2
	expect_nothing_left
}

# make_image_templates: both of test:1, of which `image` is the second one.
make_image_templates()
{
	make_root
	make_archive box.tar
	bulkhead template make --network none box.tar
	expect_status 0
	expect_templates 2
	image=$(cat out)
}

# The files of /etc are written where the root cannot be, and where /etc is a
# link, which the guest's kernel follows.
test_image_etc()
{
	make_root
	mkdir root/usr
	mv root/etc root/usr/etc
	ln -s usr/etc root/etc
	make_archive box.tar
	for how in --rm --read-only; do
		bulkhead template make "$how" --network none box.tar
		expect_status 0
		warm "$how" --hostname name --dns 10.0.0.1 --dns-search a.example \
			--entrypoint sh test:1 -c 'hostname; cd /etc
			cat hostname resolv.conf; grep name hosts
			touch /etc/new 2>/dev/null || echo read-only'
		expect_status 0
		cat <<-END >expected
			name
			name
			nameserver 10.0.0.1
			search a.example
			127.0.1.1	name
		END
		[ "$how" = --rm ] || echo read-only >>expected
		expect_out "$(cat expected)"
		expect_templates 2
		bulkhead template rm --all
	done
	expect_nothing_left
}

# With a mount on /etc there is nothing to write.
test_image_covered()
{
	make_root
	make_archive box.tar
	bulkhead template make --tmpfs /etc --network none box.tar
	expect_status 0
	warm --tmpfs /etc --hostname name --entrypoint sh test:1 -c \
		'hostname; ls -A /etc'
	expect_status 0
	expect_out name
	expect_templates 2
	expect_nothing_left
}

# spoil FILE FROM TO: a text in it is another one
spoil()
{
	local at rest

	grep -abo "$2" "$1" >places || fail "no '$2' in it"
	while IFS=: read -r at rest; do
		printf '%s' "$3" |
			dd of="$1" bs=1 seek="$at" conv=notrunc status=none
	done <places
}

# A start that fails in a container which is in a template is made once more
# without: it may be that container. One that fails there, too, says so once, and
# the template stays.
test_image_fails()
{
	local image wrong again

	make_image_templates
	# A user that the image lacks is missing in each container of it.
	for wrong in "-u missing" "-u root:missing" "--group-add missing"; do
		# shellcheck disable=SC2086 # two words
		run --rm --log-level debug $wrong test:1
		expect_status 125
		grep -q "once more" err && fail "a second start: $(cat err)"
	done
	run --rm -u missing test:1
	expect_status 125
	[ "$(grep -c "missing" err)" = 1 ] || fail "not said once: $(cat err)"
	expect_templates 2
	[ -e "store/templates/$image" ] || fail "the template is gone"
	spoil "store/templates/$image/memory" user:x: uzer:x:
	warm -u user --entrypoint sh test:1 -c 'id -un'
	expect_status 0
	expect_out user
	[ ! -e "store/templates/$image" ] || fail "it is still there"
	expect_templates 1
	# A container that cannot be made ahead, nor otherwise: the template
	# without it is not to blame.
	for again in 1 2 3; do
		run --rm --tmpfs /bin/busybox/x test:1
		expect_status 125
		tail -n 1 err | grep -q "': make mount point" ||
			fail "run $again: $(cat err)"
		cat err >>all
		expect_templates 1
	done
	grep -q "no template has its container" all || fail "it was never tried"
	expect_nothing_left
}

# A container's template that cannot be used is no reason to boot.
test_image_damaged()
{
	local image dir

	make_image_templates
	dir=store/templates/$image
	# Zeros: a guest that cannot go on.
	truncate -s 536870912 zero
	tail -c 4096 "$dir/memory" >>zero
	mv zero "$dir/memory"
	run --rm --log-level debug test:1
	expect_status 0
	expect_out "says nothing"
	grep -q 'no good any more, and removed' err || fail "no word of it"
	[ ! -e "$dir" ] || fail "it is still there"
	grep -q 'map saved memory' err || fail "it has booted"
	expect_templates 1
	: >err
	bulkhead template make --network none test:1
	expect_out "$image"
	: >"$dir/state"
	run --rm test:1
	expect_out "says nothing"
	grep -q 'made anew' err || fail "no word of it"
	# Nothing of one image's is for another one.
	rm -rf root/etc/group
	make_archive other.tar
	run --rm --log-level debug other.tar
	expect_out "says nothing"
	grep -q 'map saved memory' err || fail "it has booted"
	: >err
	bulkhead template rm --all
	expect_nothing_left
}

# Volumes of each kind join at the start: a template cannot know them.
test_volumes()
{
	local i

	make_root
	mkdir -p one two
	echo text >one/file
	run --rm -v "$PWD/one:/one" root cat /one/file
	expect_ok
	warm -v "$PWD/two:/two" -v "$PWD/one:/one" root \
		sh -c 'cat /one/file >/two/copy; mount | grep -c virtiofs'
	expect_status 0
	[ "$(cat two/copy)" = text ] || fail "it was not written"
	rm two/copy
	# A share that is read-only has other locks, and so another shape.
	run --rm -v "$PWD/one:/one:ro" root true
	expect_ok
	for i in 1 2; do
		warm -v "$PWD/one:/one:ro" root \
			sh -c 'cat /one/file; echo x >/one/x'
		expect_status 1
		expect_out text
	done
	[ ! -e one/x ] || fail "written through a read-only volume"
	expect_nothing_left
}

# Each has its own time, name and random numbers, although their memory is the
# same; several at the same time do not disturb each other.
test_clones()
{
	local -r say='date +%s; od -An -N16 -tx1 /dev/urandom; hostname
		cat /proc/sys/kernel/random/uuid; sleep 1'
	local i seconds pids=()

	make_templates
	sleep 3
	command="three of bulkhead run"
	for i in 1 2 3; do
		"$BULKHEAD" run --rm --network none root sh -c "$say" \
			>"$i.out" 2>"$i.err" &
		pids+=($!)
	done
	for i in "${pids[@]}"; do
		wait "$i" || fail "one has failed: $(cat ./*.err)"
	done
	cat ./[123].err >err
	[ ! -s err ] || fail "messages"
	for i in 1 2 3; do
		sed 1d "$i.out"
	done | sort >out
	[ "$(uniq out | wc -l)" -eq 9 ] || fail "some of them are equal"
	for i in 1 2 3; do
		read -r seconds <"$i.out"
		((seconds >= $(stat -c %Y err) - 60 && seconds <= $(date +%s))) ||
			fail "their clock has $seconds"
	done
	expect_nothing_left
}

# In the background, with exec, stop, and another start.
test_background()
{
	make_templates
	start box root sleep 1000
	bulkhead exec box hostname
	expect_ok
	expect_out box
	bulkhead stop -t 1 box
	expect_status 0
	bulkhead start box
	expect_status 0
	bulkhead exec box cat /proc/1/comm
	expect_out sleep
	bulkhead rm -f box
	expect_status 0
	expect_templates 1
	expect_nothing_left
}

# Outbound through passt, which is the start's own.
test_network()
{
	local i

	command -v passt >/dev/null || skip "no passt"
	make_root
	for i in 1 2; do
		bulkhead run --rm --network user root \
			sh -c 'ip route | grep -c default; cat /proc/net/dev | grep -c eth0'
		expect_ok
		expect_out "1
1"
	done
	expect_templates 1
	expect_nothing_left
}

# add_link NAME MAC MTU NUMBER: a veth pair to the namespace of $peer, with
# 10.NUMBER.0.1 on the other side
add_link()
{
	{
		ip link add "$1" mtu "$3" address "$2" type veth \
			peer name "peer$4" mtu "$3" netns "$peer" &&
			ip address add "10.$4.0.2/24" dev "$1" &&
			ip link set "$1" up &&
			nsenter -t "$peer" -n ip address add "10.$4.0.1/24" \
				dev "peer$4" &&
			nsenter -t "$peer" -n ip link set "peer$4" up
	} >ip.out 2>&1 || skip "no network can be made: $(tail -n 1 ip.out)"
}

# in_warm NETWORK MAC MTU: a guest that went on has them, and reaches the peer
in_warm()
{
	command="bulkhead run --network $1"
	"$BULKHEAD" run --rm --network "$1" --log-level debug root sh -c \
		'cat /sys/class/net/*7/address /sys/class/net/*7/mtu
			ping -c 1 10.7.0.1 >/dev/null && echo reached' \
		>out 2>err || fail "status $?: $(cat err)"
	grep -q 'map saved memory' err || fail "it has booted"
	! grep -q ' warn: ' err || fail "a warning"
	: >err
	expect_out "$2
$3
reached"
}

# The first machine has no interface, or another one, than those that go on.
networks()
{
	ip link set lo up
	unshare -n sleep 1000 &
	peer=$!
	trap 'kill "$peer"' EXIT
	wait_until is_apart || fail "the peer has no namespace"
	make_root
	bulkhead run --rm --network namespace root cat /proc/net/dev
	expect_ok
	! grep -q eth out || fail "it has an interface"
	expect_templates 1
	add_link net7 02:42:00:00:00:07 1500 7
	in_warm namespace 02:42:00:00:00:07 1500
	ip link del net7
	add_link eth7 02:42:00:00:00:08 1400 7
	in_warm namespace 02:42:00:00:00:08 1400
	expect_templates 1
	# With interfaces, the one that is saved has them only afterwards.
	"$BULKHEAD" template rm --all
	bulkhead run --rm --network namespace root ping -c 1 10.7.0.1
	expect_ok
	expect_templates 1
	ip link del eth7
	add_link eth7 02:42:00:00:00:09 1500 7
	in_warm namespace 02:42:00:00:00:09 1500
	expect_nothing_left
}

is_apart()
{
	! [ "/proc/$peer/ns/net" -ef /proc/self/ns/net ]
}

# Interfaces of a namespace, which a template cannot know.
test_networks()
{
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	on_own_net networks
}

# A tap of the host's: the first machine has another one.
taps()
{
	ip link set lo up
	make_root
	for tap in bht0 bht1; do
		"$GUEST/guest" "tap:$tap:10.9${tap#bht}.1.1:1500" >host.out ||
			skip "no tap can be made: $(cat host.out)"
		bulkhead run --rm --log-level debug --network \
			"tap=$tap,address=10.9${tap#bht}.1.2/24" root sh -c \
			'ping -c 1 '"10.9${tap#bht}.1.1"' && echo reached'
		expect_status 0
		expect_out reached
		expect_templates 1
	done
	grep -q 'map saved memory' err || fail "it has booted"
	expect_nothing_left
}

test_taps()
{
	[ -e /dev/net/tun ] || skip "no /dev/net/tun"
	on_own_net taps
}

# One that is damaged, or was written by another, is never run.
test_damaged()
{
	local dir

	make_templates
	dir=$(echo store/templates/*)
	truncate -s 4096 "$dir/memory"
	run --rm root echo hello
	expect_status 0
	expect_out hello
	grep -q 'cut off' err || fail "no word of it"
	grep -q 'made anew' err || fail "no word of what follows"
	warm root true
	# Zeros: a guest that cannot go on.
	: >"$dir/memory.zero"
	truncate -s 536870912 "$dir/memory.zero"
	tail -c 4096 "$dir/memory" >>"$dir/memory.zero"
	mv "$dir/memory.zero" "$dir/memory"
	run --rm root echo hello
	expect_status 0
	expect_out hello
	grep -q 'no good any more, and removed' err || fail "no word of it"
	expect_templates 0
	bulkhead template make --network none root
	chmod 755 store/templates
	run --rm root echo hello
	expect_status 0
	expect_out hello
	expect_error "not this user's alone"
	expect_nothing_left
}

# None is made where none is wanted, or there is no room.
test_none()
{
	make_root
	run --rm --cold root true
	expect_ok
	expect_templates 0
	BULKHEAD_TEMPLATES=off run --rm root true
	expect_ok
	expect_templates 0
	BULKHEAD_TEMPLATES=nonsense run --rm root true
	expect_status 125
	expect_error 'neither off nor a size'
	BULKHEAD_TEMPLATES=1M run --rm root true
	expect_status 125
	expect_error 'no room for one' 128M
	expect_templates 0
	[ -z "$(ls store/templates)" ] || fail "something is left"
	expect_nothing_left
}

# saves: a template is being written
saves()
{
	local memory

	for memory in store/templates/*.part/memory; do
		[ -s "$memory" ] && return
	done
	return 1
}

# stop_saving COMMAND...: begins it, and stops its monitor amid the saving of its
# template; sets `pid`, the command's. False: it was saved before.
stop_saving()
{
	local children child comm

	# The shell has programs in the background ignore SIGINT.
	env --default-signal=INT "$BULKHEAD" "$@" >out 2>err &
	pid=$!
	until saves; do
		kill -0 "$pid" 2>/dev/null || break
	done
	read -r children <"/proc/$pid/task/$pid/children" || :
	for child in $children; do
		read -r comm <"/proc/$child/comm" || :
		[ "$comm" != bulkhead-vm ] || kill -STOP "$child"
	done
	saves && return
	kill -9 "$pid"
	wait "$pid" || :
	bulkhead template rm --all
	return 1
}

# Ctrl-C ends a start at once also while the machine is being saved, and leaves
# neither half of a template nor a machine.
test_interrupted()
{
	local signal try start

	make_root
	for signal in INT TERM; do
		for try in 1 2 3 4 5; do
			stop_saving template make --network none root && break
			[ "$try" != 5 ] || fail "always saved before"
		done
		start=$SECONDS
		kill -s "$signal" "$pid"
		status=0
		wait "$pid" || status=$?
		command="bulkhead template make"
		expect_status $((128 + $(kill -l "$signal")))
		[ $((SECONDS - start)) -lt 40 ] || fail "it took $((SECONDS - start)) s"
		[ -z "$(ls store/templates)" ] || fail "left: $(ls store/templates)"
		expect_nothing_left
	done
	run --rm root echo hello
	expect_out hello
	expect_templates 1
	expect_nothing_left
}

# ls, make and rm.
test_command()
{
	local name

	make_root
	bulkhead template
	expect_ok
	[ "$(wc -l <out)" -eq 1 ] || fail "there are some"
	bulkhead template make --network none --memory 128M --cpus 2 root
	expect_ok
	name=$(cat out)
	bulkhead template make --network none --memory 128M --cpus 2 root
	expect_ok
	expect_out "$name"
	bulkhead template
	expect_ok
	grep -Eq "^$name +128 MiB +2 +none +1 " out || fail "not as it is"
	bulkhead template rm "$name" ../images
	expect_status 1
	expect_error 'there is none'
	[ -d store/images ] || fail "it has removed something else"
	expect_templates 0
	bulkhead template make --network none root
	bulkhead template rm --all
	expect_ok
	expect_templates 0
	bulkhead template rm
	expect_status 2
	bulkhead template grow
	expect_status 2
	expect_error 'neither ls, make nor rm'
	expect_nothing_left
}

# A start that fails for a reason of its own leaves the template as it is.
test_own_failure()
{
	local i

	command -v passt >/dev/null || skip "no passt"
	make_root
	bulkhead run --rm --network user root true
	expect_ok
	expect_templates 1
	run_start holder -d --network user -p 127.0.0.1:18080:80 root sleep 1000
	wait "${running[holder]}" || fail "not started: $(cat holder.err)"
	unset 'running[holder]'
	bulkhead run --rm -p 127.0.0.1:18080:80 root true
	expect_status 125
	expect_error 'Address already in use'
	expect_templates 1
	bulkhead rm -f holder
	expect_status 0
	expect_nothing_left
}
