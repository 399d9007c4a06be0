# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Properties of an image's tree that show only in a guest.

. "$TOP/tests/boot/run-lib.sh"

# give_chown FILE: the capability to give files away, to who runs it.
give_chown()
{
	# setxattr(2) by its number: Python takes seconds to start in the lab.
	perl -e '$file = shift; $name = "security.capability";
		$value = pack "V5", 0x02000001, 1, 0, 0, 0;
		exit !!syscall 188, $file, $name, $value, 20, 0' "$1"
}

# The guest is told that a tree has no extended attributes where it has none,
# and only there.
test_capabilities()
{
	need_root
	make_root
	mkdir root/mine
	cp root/bin/busybox root/mine/busybox
	make_archive without.tar
	give_chown root/mine/busybox || skip "no capabilities on this disk"
	make_archive with.tar --format=pax --xattrs '--xattrs-include=*'
	for image in without with; do
		# Both call themselves test:1.
		export BULKHEAD_STORE=$PWD/store-$image
		run --rm -u user --entrypoint sh $image.tar -c '
			>/tmp/f; /mine/busybox chown 12:34 /tmp/f; stat -c %u:%g /tmp/f'
		expect_status 0
		case $image in
		without)
			grep -q 'not permitted' err || fail "chown is allowed"
			expect_out 1000:1000
			;;
		with)
			expect_silence
			expect_out 12:34
			;;
		esac
	done
	expect_nothing_left
}
