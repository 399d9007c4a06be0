# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Disks: what is written stays, what must not be written is not, and an image
# that misbehaves hurts its guest alone.

# Writes, flushes, discards, zeroes; afterwards the host looks at the file.
test_persist()
{
	local before after

	"$GUEST/guest" "makefile:disk:16M" >/dev/null
	before=$(stat -c %b disk)
	guest 'disk:vda:size:32768,disk:vda:serial:blue,disk:vda:ro:0,'\
'write:vda:0:4M:11,check:vda:0:4M:11,discard:vda:8M:2M,'\
'zero:vda:12M:1M,iszero:vda:12M:1M' --disk disk,id=blue
	expect_ok
	"$GUEST/guest" "check:$PWD/disk:0:4M:11" "iszero:$PWD/disk:12M:1M" \
		"check:$PWD/disk:4M:4M:3" >host.out || fail "$(cat host.out)"
	after=$(stat -c %b disk)
	[ "$after" -lt "$before" ] || fail "discard gave no blocks back"
	[ "$(stat -c %s disk)" -eq $((16 << 20)) ] || fail "the size changed"
}

test_readonly()
{
	local sum

	sum=$(sha256sum <"$GUEST/root.erofs")
	guest disk:vda:ro:1,refuse:vda --disk "$GUEST/root.erofs,readonly"
	expect_ok
	[ "$(sha256sum <"$GUEST/root.erofs")" = "$sum" ] || fail "it was written"
}

test_several()
{
	truncate -s 1M a
	truncate -s 2M b
	truncate -s 3M c
	guest 'disk:vda:size:2048,disk:vdb:size:4096,disk:vdc:size:6144,'\
'write:vdb:0:1M:7,iszero:vda:0:1M,iszero:vdc:0:1M' \
		--disk a --disk b --disk c
	expect_ok
	"$GUEST/guest" "check:$PWD/b:0:1M:7" >host.out || fail "$(cat host.out)"
}

test_direct()
{
	# Scratch directories may be in memory, which has no direct I/O.
	cd "$(mktemp -d "$GUEST.test.XXXXXX")" || skip "no directory on a disk"
	trap 'rm -rf "$PWD"' EXIT
	truncate -s 8M disk
	dd if=disk of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null ||
		skip "no direct I/O on this file system"
	guest write:vda:0:4M:9,check:vda:0:4M:9 --disk disk,direct
	expect_ok
	"$GUEST/guest" "check:$PWD/disk:0:4M:9" >host.out || fail "$(cat host.out)"
}

test_block_device()
{
	local loop

	need_root
	truncate -s 8M file
	loop=$(losetup -f --show file 2>/dev/null) || skip "no loop device"
	guest disk:vda:size:16384,write:vda:0:1M:5,check:vda:0:1M:5 \
		--disk "$loop"
	losetup -d "$loop"
	expect_ok
	"$GUEST/guest" "check:$PWD/file:0:1M:5" >host.out || fail "$(cat host.out)"
}

# The image shrinks under a running guest: EIO there, and nothing else.
test_shrinks()
{
	"$GUEST/guest" "makefile:disk:8M" >/dev/null
	guest_start vm eio:vda:6M,check:vda:0:1M:3 --disk disk
	wait_for vm.out 'waiting for EIO'
	truncate -s 2M disk
	guest_wait vm
	expect_status 0
	expect_no_out FAIL
	expect_out 'ok check'
}

# The file, or the device, grows while the guest runs.
test_grows()
{
	local loop=''

	truncate -s 1M disk
	guest_start vm grown:vda:3M,write:vda:2M:1M:5,check:vda:2M:1M:5 \
		--disk disk
	wait_for vm.out 'waiting for size'
	truncate -s 3M disk
	kill -USR1 "$(guest_pid vm)"
	guest_wait vm
	expect_ok
	expect_out 'ok check'
	[ "$(id -u)" -eq 0 ] && loop=$(losetup -f --show disk 2>/dev/null) ||
		return 0
	guest_start vm grown:vda:4M --disk "$loop"
	wait_for vm.out 'waiting for size'
	truncate -s 4M disk
	losetup -c "$loop"
	kill -USR1 "$(guest_pid vm)"
	guest_wait vm
	losetup -d "$loop"
	expect_ok
}

# More devices than interrupt lines: from the twentieth on they share. By the
# device tree, and by ACPI.
test_many_disks()
{
	local disks=() i

	for i in $(seq 62); do
		truncate -s 64K "disk$i"
		disks+=(--disk "disk$i")
	done
	guest many:62,rng "${disks[@]}" --cpus 2
	expect_ok
	expect_out 'ok rng'
	truncate -s 64K one-more
	guest many:4 "${disks[@]}" --disk one-more
	expect_status 2
	expect_error 'at most 64 devices'
}

test_many_disks_pvh()
{
	local disks=() i

	for i in $(seq 32); do
		truncate -s 64K "disk$i"
		disks+=(--disk "disk$i")
	done
	guest many:32,exit:0 "${disks[@]}" --entry pvh --cpus 2
	expect_ok
	expect_out 'ok many'
}
