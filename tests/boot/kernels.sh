# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Every form of kernel and root that the monitor loads.

test_vmlinux()
{
	guest facts,exists:/proc/device-tree/compatible --entry linux
	expect_ok
	expect_out 'bulkhead-test: user space'
	[ "$(fact cpus)" = 1 ] || fail "CPUs"
}

# Landlock, userfaultfd and the like: programs in containers ask for them.
test_offers()
{
	guest offers
	expect_ok
}

test_vmlinux_pvh()
{
	# Without a device tree the project's kernel, which has no ACPI, knows
	# no way to power off.
	guest facts,cpus:2,exit:0 --entry pvh --cpus 2
	expect_ok
}

test_bzimage()
{
	boot --kernel "$BZIMAGE" --initrd "$GUEST/initrd" --append test=facts
	expect_ok
	expect_out 'ok facts'
}

test_vmlinux_gzip()
{
	gzip -1 <"$KERNEL" >vmlinux.gz
	boot --kernel vmlinux.gz --initrd "$GUEST/initrd" --append test=facts
	expect_ok
	expect_out 'ok facts'
}

test_root_ext4()
{
	cp "$GUEST/root.ext4" disk
	boot --kernel "$KERNEL" --disk disk --append 'test=facts,echo:hello'
	expect_ok
	expect_out hello
}

test_root_erofs()
{
	boot --kernel "$KERNEL" --disk "$GUEST/root.erofs,readonly" \
		--append 'test=facts,echo:hello'
	expect_ok
	expect_out hello
}

test_initrd_large()
{
	local size=96M

	! is_slow || size=3M
	mkdir root
	cp "$GUEST/guest" root/init
	"$GUEST/guest" "makefile:root/big:$size" >/dev/null
	(cd root && find . | cpio -o -H newc --quiet) >initrd
	boot --kernel "$KERNEL" --initrd initrd --memory 512M \
		--append "test=file:/big:$size"
	expect_ok
	expect_out 'ok file'
}

# All that the kernel does not know would be init's: its arguments, and
# variables in its environment.
test_given()
{
	local console

	for console in auto serial; do
		guest given,echo:done --console "$console"
		expect_ok
		expect_out 'done'
		expect_no_out 'given '
	done
	# An interpreting host's words are left out where the kernel has not
	# heard of them. (The guest may well not run with them here.)
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" --assist on \
		--log-level debug
	grep -q 'command line: .* clearcpuid=' err || fail 'no words'
	! grep -q 'command line: .* nopti' err || fail 'nopti is there'
	guest given,echo:done --append 'test=given x-word x-name=value' \
		--cpus 2
	expect_ok
	[ "$(grep -c '^given ' out)" -eq 2 ] || fail 'more is given'
	expect_out 'given argument x-word'
	expect_out 'given variable x-name=value'
}

# Linux would leave out what it has no room for, without a word.
test_command_line_limit()
{
	local long n room

	# The line takes as much more as still fits, and is refused with one
	# byte more.
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" --append \
		"$(printf 'x.y=%04000d' 0)"
	expect_status 2
	expect_error 'the kernel command line has' '4004 of them' 'takes 2047'
	n=$(sed -n 's/.*has \([0-9]*\) bytes.*/\1/p' err)
	room=$((2047 - (n - 4004) - 24))
	long=$(printf "x.y=%0$((room))d" 0)
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" --append \
		"$long test=echo:all-of-it"
	expect_ok
	expect_out all-of-it
	boot --kernel "$KERNEL" --initrd "$GUEST/initrd" --append \
		"0$long test=echo:all-of-it"
	expect_status 2
	expect_error 'has to be 1 shorter'
	boot --kernel "$BZIMAGE" --initrd "$GUEST/initrd" --append \
		"0$long test=echo:all-of-it"
	expect_status 2
	expect_error 'has to be 1 shorter'
}

# Unpacked on the host, once: Linux would do it at each start.
test_packed()
{
	command -v zstd >/dev/null || skip "no zstd"
	export BULKHEAD_CACHE=$PWD/cache
	zstd -q -1 -c <"$KERNEL" >packed
	boot --kernel packed --initrd "$GUEST/initrd" --append test=facts
	expect_status 0
	expect_out 'ok facts'
	grep -q "kernel 'packed': .*unpacked, this once" err ||
		fail "not unpacked"
}

# Debian's stock cloud kernel finds the devices through ACPI alone: its MP
# table and command line support for virtio-mmio are compiled out.
test_debian_cloud()
{
	local lab m

	lab=$("$TOP/tests/lab/prepare") || skip "no kernel of Debian's here"
	mkdir -p root/modules
	cp "$GUEST/guest" root/init
	# In the order that their dependencies ask for.
	while read -r m; do
		case $m in
		virtio.ko | virtio_ring.ko | virtio_mmio.ko | virtio_blk.ko | \
			virtio-rng.ko)
			cp "$lab/modules/$m" root/modules/
			echo "$m" >>root/modules/order
			;;
		esac
	done <"$lab/modules/order"
	(cd root && find . | cpio -o -H newc --quiet) >initrd
	truncate -s 4M disk
	# Its payload, packed with lz4, is unpacked by the host.
	export BULKHEAD_CACHE=$PWD/cache
	boot --kernel "$lab/vmlinuz" --initrd initrd --memory 512M --cpus 2 \
		--console serial --disk disk,id=stock --append \
'test=given,facts,modules,exists:/sys/firmware/acpi/tables/APIC,cpus:2,'\
'disk:vda:serial:stock,write:vda:0:1M:3,check:vda:0:1M:3,rng'
	expect_status 0
	expect_out 'ok rng'
	expect_no_out 'given '
	grep -q "vmlinuz': its lz4 data is unpacked" err || fail "not unpacked"
}
