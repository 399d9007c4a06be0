# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# The kernel that the distribution ships, whose drivers are modules: guests and
# containers start with it as with the project's.

. "$TOP/tests/boot/run-lib.sh"
need_distro

# A container, its share, a second command in it, its end. Without a kernel of
# the project's this one is taken, and that is said in a line.
test_run()
{
	unset BULKHEAD_KERNEL
	mkdir cache
	make_root
	mkdir volume
	echo from-host >volume/file
	BULKHEAD_CACHE=$PWD/cache run -d --name c -v "$PWD/volume:/v" root \
		/bin/sh -c 'cat /v/file; echo back >/v/back; sleep 1000'
	expect_status 0
	[ "$(grep -c "distribution's, Linux" err)" -eq 1 ] ||
		fail "which kernel it is is not said once"
	bulkhead exec c /bin/sh -c 'uname -r; cat /v/back; exit 7'
	expect_status 7
	expect_out "${BULKHEAD_DISTRO##*/distro-}"
	expect_out back
	bulkhead stop -t 0 c
	expect_status 0
	bulkhead logs c
	expect_out from-host
	bulkhead rm c
	expect_nothing_left
}

# bulkhead-init mounts the root and becomes its init, which gets nothing that is
# not its own.
test_boot()
{
	cp "$GUEST/root.ext4" disk
	boot --kernel distro --disk disk --append \
		'test=given,facts,echo:ext4 x-word'
	expect_status 0
	expect_silence
	expect_out ext4
	expect_out 'given argument x-word'
	[ "$(grep -c '^given ' out)" -eq 1 ] || fail 'more is given'
	boot --kernel distro --disk "$GUEST/root.erofs,readonly" --cpus 2 \
		--console serial --append 'test=facts,cpus:2,echo:erofs'
	expect_status 0
	expect_out erofs
}

test_boot_share()
{
	mkdir -p root/sbin root/dev root/proc root/sys
	cp "$GUEST/guest" root/sbin/init
	boot --kernel distro --share root,tag=myroot --append \
		'root=myroot rootfstype=virtiofs rw test=facts,echo:share'
	expect_status 0
	expect_silence
	expect_out share
}

# Each thing that is missing is named, on the console.
test_boot_fails()
{
	local options expected

	cp "$GUEST/root.ext4" disk
	while IFS='|' read -r options expected; do
		# shellcheck disable=SC2086 # words
		boot --kernel distro $options
		expect_status 1
		expect_out "bulkhead-init: $expected"
	done <<-'END'
	--console auto|the guest has no root: give --disk FILE
	--disk disk --append init=/x|init=/x: No such file or directory
	END
}

# `boot` says what is wrong with a kernel's modules before it makes a guest.
test_modules()
{
	local version

	version=$(basename "$BULKHEAD_DISTRO"/lib/modules/*)
	mkdir -p other/boot "other/lib/modules/$version"
	ln -s "$BULKHEAD_DISTRO/boot/vmlinuz-$version" other/boot
	cp "$BULKHEAD_DISTRO/lib/modules/$version"/modules.{dep,builtin} \
		"other/lib/modules/$version"
	export BULKHEAD_DISTRO=$PWD/other
	boot --kernel distro
	expect_status 2
	grep -q "module '.*/virtio[a-z_]*.ko': No such file" err ||
		fail 'the module is not named'
	rm -r "other/lib/modules/$version/modules.dep"
	boot --kernel distro
	expect_status 2
	expect_error modules.dep 'No such file' linux-image-cloud-amd64
	rm -r other/boot
	bulkhead run --kernel distro --network none other true
	expect_status 125
	expect_error vmlinuz 'No such file'
	expect_nothing_left
}

# Modules that the kernel refuses end the guest at once, and one is named.
test_other_modules()
{
	local version from m

	version=$(basename "$BULKHEAD_DISTRO"/lib/modules/*)
	from=$BULKHEAD_DISTRO/lib/modules/$version
	mkdir -p other/boot "other/lib/modules/$version"
	cp "$BULKHEAD_DISTRO/boot/vmlinuz-$version" other/boot
	cp "$from"/modules.{dep,builtin} "other/lib/modules/$version"
	for m in $(cd "$from" && find kernel/drivers/virtio \
		kernel/drivers/char kernel/drivers/block/virtio_blk.ko \
		kernel/fs/fuse kernel/fs/overlayfs kernel/net/vmw_vsock \
		-name '*.ko'); do
		mkdir -p "other/lib/modules/$version/${m%/*}"
		LC_ALL=C sed 's/vermagic=/Vermagic=/' "$from/$m" \
			>"other/lib/modules/$version/$m"
	done
	make_root
	export BULKHEAD_DISTRO=$PWD/other
	run --kernel distro root true
	expect_status 125
	expect_error "'/modules/virtio" "its signature is not this kernel's"
	expect_nothing_left
}
