# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Bad input: one line that says what, which and why, status 2 or 3, and nothing
# left behind. No guest starts here, so all of it is quick.

# refused STATUS TEXTS... -- OPTION...
refused()
{
	local want=$1 texts=()

	shift
	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	boot "$@"
	expect_status "$want"
	expect_error "${texts[@]}"
	[ ! -s out ] || fail "something is on standard output"
}

# refused_either TEXTS... -- OPTION...: status 2 or 3
refused_either()
{
	local texts=()

	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	boot "$@"
	[ "$status" -eq 2 ] || [ "$status" -eq 3 ] ||
		fail "exit status is $status, not 2 or 3"
	expect_error "${texts[@]}"
}

test_options()
{
	refused 2 nosuch -- --nosuch
	refused 2 memory -- --memory
	refused 2 memory lots -- --kernel "$KERNEL" --memory lots
	refused 2 memory -- --kernel "$KERNEL" --memory 1M
	refused 2 cpus -- --kernel "$KERNEL" --cpus 0
	refused 2 cpus -- --kernel "$KERNEL" --cpus 33
	refused 2 cpus -- --kernel "$KERNEL" --cpus two
	refused 2 console -- --kernel "$KERNEL" --console telepathy
	refused 2 entry -- --kernel "$KERNEL" --entry sideways
	refused 2 stray -- --kernel "$KERNEL" stray
	refused 2 readonyl readonly -- --kernel "$KERNEL" --disk a,readonyl
	refused 2 mac -- --kernel "$KERNEL" --net tap=t,mac=nonsense
	refused 2 teapot -- --kernel "$KERNEL" --device teapot
	refused_either config nosuch -- --config nosuch.json
	echo '{"kernel": 7, ' >bad.json
	refused_either bad.json -- --config bad.json
	refused_either append -- --kernel "$KERNEL" \
		--append "$(printf 'x%.0s' {1..5000})"
}

test_kernel()
{
	refused_either nosuch -- --kernel nosuch
	refused_either "$PWD" -- --kernel "$PWD"
	: >empty
	refused_either empty -- --kernel empty
	head -c 100000 /dev/urandom >garbage
	refused_either garbage -- --kernel garbage
	head -c 3000000 "$KERNEL" >cut.elf
	refused_either cut.elf -- --kernel cut.elf
	head -c 40 "$KERNEL" >stub
	refused_either stub -- --kernel stub
	head -c 2000000 "$BZIMAGE" >cutbz
	refused_either cutbz -- --kernel cutbz
	gzip -1 <"$KERNEL" | head -c 1000000 >cut.gz
	refused_either cut.gz -- --kernel cut.gz
	mkfifo fifo
	sleep 20 >fifo &
	refused_either fifo -- --kernel fifo
	kill $!
	refused_either busybox -- --kernel /bin/busybox
}

# An ELF file whose headers lie. Offsets: ELF64 header, first program header.
test_hostile_elf()
{
	local at

	poke()
	{
		head -c 1000000 "$KERNEL" >elf
		# shellcheck disable=SC2059 # bytes are the format
		printf "$2" | dd of=elf bs=1 seek="$1" conv=notrunc status=none
		boot --kernel elf --memory 64M
		[ "$status" -eq 2 ] || [ "$status" -eq 3 ] ||
			fail "offset $1: exit status is $status"
		expect_error elf
	}
	for at in 24 32 40 54 56 64 72 80 88 96 104; do
		poke $at '\377\377\377\377\377\377\377\377'
		poke $at '\0\0\0\0\0\0\0\200'
	done
	poke 18 '\003\0'
	poke 4 '\001'
}

test_initrd()
{
	refused_either nosuch -- --kernel "$KERNEL" --initrd nosuch
	refused_either "$PWD" -- --kernel "$KERNEL" --initrd "$PWD"
	: >empty
	refused_either empty -- --kernel "$KERNEL" --initrd empty
	truncate -s 100M large
	refused_either large -- --kernel "$KERNEL" --initrd large --memory 64M
	truncate -s 1T huge 2>/dev/null || truncate -s 4G huge
	refused_either huge -- --kernel "$KERNEL" --initrd huge --memory 64M
}

test_memory()
{
	refused_either memory -- --kernel "$KERNEL" --memory 8E
	refused_either memory -- --kernel "$KERNEL" --memory 100001
	refused_either memory -- --kernel "$KERNEL" --memory 99999999T
}

test_disk()
{
	refused_either nosuch -- --kernel "$KERNEL" --disk nosuch
	refused_either "$PWD" -- --kernel "$KERNEL" --disk "$PWD"
	refused_either /dev/null -- --kernel "$KERNEL" --disk /dev/null
	: >empty
	refused_either empty -- --kernel "$KERNEL" --disk empty
	refused_either blk missing -- --kernel "$KERNEL" --disk readonly
}

test_disk_locked()
{
	truncate -s 1M disk
	guest_start vm hang --disk disk
	wait_for vm.out hanging
	refused_either disk use -- --kernel "$KERNEL" --disk disk
	refused_either disk use -- --kernel "$KERNEL" --disk disk,readonly
	kill -TERM "$(guest_pid vm)"
	guest_wait vm
	expect_status 143
}

test_tap()
{
	need_root
	refused_either nosuchtap tuntap -- --kernel "$KERNEL" --net tap=nosuchtap
	refused_either lo -- --kernel "$KERNEL" --net tap=lo
	refused_either tap -- --kernel "$KERNEL" \
		--net tap=aninterfacenamethatistoolong
}

# No device node, no KVM: said in time.
test_no_kvm()
{
	need_root
	# busybox: the other mount writes to /run.
	unshare -m true 2>/dev/null || skip "no mount namespace"
	command="bulkhead boot without /dev/kvm"
	status=0
	unshare -m sh -c "busybox mount -o bind /dev/null /dev/kvm &&
		exec \"\$0\" boot --kernel \"\$1\"" "$BULKHEAD" "$KERNEL" \
		>out 2>err </dev/null || status=$?
	expect_status 3
	expect_error /dev/kvm
}

# A user who may not open /dev/kvm is told of its group, but of another way where
# groups do not count.
test_denied_kvm()
{
	local nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'

	in_lab || skip "changes the mode of /dev/kvm: in the lab only"
	install -m 755 "$BULKHEAD" /tmp/bulkhead-denied
	trap 'rm -f /tmp/bulkhead-denied; chmod '"$(stat -c %a /dev/kvm)"' /dev/kvm' EXIT
	chgrp kvm /dev/kvm
	chmod 660 /dev/kvm
	$nobody /tmp/bulkhead-denied check >out 2>err || status=$?
	grep -q 'usermod -aG kvm' out || fail "no group is named"
	$nobody unshare --user --map-root-user /tmp/bulkhead-denied check >out 2>err
	grep -q 'setfacl -m u:USER:rw /dev/kvm' out || fail "no other way is named"
}
