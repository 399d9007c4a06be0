# shellcheck shell=bash disable=SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Shared directories: as a root file system, as POSIX has it, with every way of
# caching and of keeping owners, and with nothing of the host's beside them.

# As many operations as a guest does in a second or two.
FSX=500
! is_slow || FSX=150

need_xattrs()
{
	"$GUEST/guest" "xattrs:$PWD" >/dev/null ||
		skip "no extended attributes of users here"
}

# share CACHE OWNERSHIP: a fresh directory, and the actions on it.
share()
{
	local actions='mount:t:/mnt' maps=yes

	[ "$1" != never ] || maps=no
	mkdir share
	actions+=",shmap:/mnt/mapped:$maps,posix:/mnt"
	actions+=",fsx:/mnt/fsx:$FSX:$RANDOM,tree:/mnt/tree:4:15"
	guest "$actions" \
		--share "share,tag=t,cache=$1,ownership=$2"
	expect_ok
}

test_auto_host()
{
	need_root
	share auto host
	# The host finds what the guest's user made, and nothing that a guest
	# may not make here.
	[ "$(stat -c '%u:%g %a' share/users/open/f)" = '1000:2000 600' ] ||
		fail "owner or mode of a user's file"
	[ -z "$(find share \( -type b -o -type c \) ! -name white)" ] ||
		fail "a device on the host"
}

test_auto_xattr()
{
	need_xattrs
	share auto xattr
	[ -z "$(find share ! -type f ! -type d ! -type l)" ] ||
		fail "a special file on the host"
	[ -z "$(find share ! -type l -perm /7022)" ] || fail "a mode on the host"
	[ -z "$(find share ! -uid "$(id -u)")" ] || fail "an owner on the host"
}

test_always()
{
	share always auto
}

# With cache=never every access goes to the host, so that no file can be mapped
# shared.
test_never()
{
	share never auto
}

# An ordinary user's monitor, which has no privilege to begin with.
test_user()
{
	need_root
	need_xattrs
	mkdir share
	chown 65534:65534 share
	chmod 711 . ..
	cp "$BULKHEAD" "$KERNEL" "$GUEST/initrd" .
	mknod -m 666 kvm c 10 232
	command='bulkhead as an ordinary user'
	status=0
	# The user gets /dev/kvm here: the test is about the share.
	timeout -k 5 "$LIMIT" unshare -m sh -c 'mount --bind kvm /dev/kvm &&
		exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' \
		sh ./bulkhead boot --kernel vmlinux --initrd initrd \
		--share share,tag=t --append 'test=mount:t:/mnt,posix:/mnt' \
		>out 2>err </dev/null || status=$?
	rm -f kvm
	expect_ok
	[ -z "$(find share -perm /7000)" ] || fail "a mode on the host"
}

fill_root()
{
	mkdir -p root/{bin,sbin,dev,proc,sys,tmp,mnt,etc}
	cp "$GUEST/guest" root/sbin/test-guest
	cp "$GUEST/first" root/sbin/init
}

test_root()
{
	fill_root
	boot --kernel "$KERNEL" --share root,tag=myroot \
		--append 'root=myroot rootfstype=virtiofs rw
			test=facts,put:/etc/new:text,text:/etc/new:text'
	expect_ok
	[ "$(cat root/etc/new)" = text ] || fail "what the guest wrote"
}

test_readonly()
{
	fill_root
	echo -n inside >root/etc/file
	boot --kernel "$KERNEL" --share root,tag=r,readonly \
		--append 'root=r rootfstype=virtiofs rw
			test=facts,readonly:/etc:file,text:/etc/file:inside'
	expect_ok
}

# The guest reads files of a share that never changes without opening them.
test_image()
{
	fill_root
	echo -n inside >root/etc/file
	mkdir root/many
	(cd root/many && seq 200 | xargs touch)
	boot --kernel "$KERNEL" --share root,tag=r,readonly,cache=always \
		--append 'root=r rootfstype=virtiofs ro
			test=facts,text:/etc/file:inside,errno:2:/etc/none,'\
'fswalk:/many,text:/etc/file:inside'
	expect_ok
	expect_out '201 entries'
	expect_out '200 entries'
}

# A container's root: changes are on top of it, in the guest's memory.
test_overlay()
{
	mkdir -p share/etc share/old
	echo -n below >share/etc/file
	echo -n gone >share/old/file
	guest 'mount:t:/lower,overlay:/lower:/mnt,text:/mnt/etc/file:below,'\
'change:/mnt/etc/file:above,text:/mnt/etc/file:above,tree:/mnt/tree:2:10,'\
'text:/lower/etc/file:below,put:/mnt/old/new:text' \
		--share share,tag=t,readonly,cache=always
	expect_ok
	[ "$(cat share/etc/file)" = below ] || fail "the share was changed"
	[ "$(find share | wc -l)" -eq 5 ] || fail "the share was added to"
}

# The changes on a share, too: what is removed leaves a mark, which is no device.
overlay_upper()
{
	mkdir lower upper
	echo -n below >lower/file
	echo -n gone >lower/gone
	echo -n moved >lower/moved
	guest 'mount:l:/lower,mount:u:/upper,overlay:/lower:/mnt:/upper,'\
'change:/mnt/file:above,remove:/mnt/gone,errno:2:/mnt/gone,'\
'move:/mnt/moved:/mnt/new,errno:2:/mnt/moved,text:/mnt/new:moved,'\
'tree:/mnt/tree:2:10,text:/lower/gone:gone' --share lower,tag=l,readonly \
		--share "upper,tag=u,ownership=$1"
	expect_ok
	[ "$(cat upper/upper/file)" = above ] || fail "the change"
}

test_overlay_host()
{
	need_root
	need_xattrs
	overlay_upper host
	[ "$(stat -c '%F %t:%T' upper/upper/gone)" = \
		'character special file 0:0' ] || fail "the mark"
}

test_overlay_xattr()
{
	need_xattrs
	overlay_upper xattr
}

test_devices()
{
	need_root
	mknod null c 1 3 2>/dev/null || skip "no device nodes here"
	mkdir share
	guest 'mount:t:/mnt,posix:/mnt:devices' \
		--share share,tag=t,ownership=host,devices=allow
	expect_ok
	[ "$(stat -c '%F %t:%T' share/devices/null)" = \
		'character special file 1:3' ] || fail "the device"
	guest facts --share share,tag=t,ownership=xattr,devices=allow
	expect_status 2
	expect_error 'devices=allow' ownership=xattr
}

# The guest follows links itself, so they lead to files of its own tree.
test_contained()
{
	mkdir -p share/sub
	echo -n outside >secret
	echo -n inside >share/inside
	ln -s ../secret share/up
	ln -s "$PWD/secret" share/absolute
	ln -s ../../../../../../../../../../etc/passwd share/passwd
	ln -s ../inside share/sub/link
	guest 'mount:t:/mnt,errno:2:/mnt/up,errno:2:/mnt/absolute,'\
'errno:2:/mnt/passwd,errno:2:/mnt/../secret,text:/mnt/sub/link:inside' \
		--share share,tag=t
	expect_ok
}

# File systems mounted within the directory are part of it.
test_mounts()
{
	need_root
	mkdir -p share/sub
	mount -n -t tmpfs tmpfs share/sub 2>/dev/null || skip "no mounts here"
	echo -n inner >share/sub/file
	guest 'mount:t:/mnt,text:/mnt/sub/file:inner,put:/mnt/sub/new:text' \
		--share share,tag=t
	status_of_new=$(cat share/sub/new)
	umount -n share/sub
	expect_ok
	[ "$status_of_new" = text ] || fail "what was written to the mount"
}

# Access control lists, where the host's file system has them.
acl()
{
	need_root
	mkdir share
	"$GUEST/guest" "acl:$PWD" >acl.out || skip "no ACLs here: $(cat acl.out)"
	guest 'mount:t:/mnt,acl:/mnt' --share "share,tag=t,ownership=host,$1"
	expect_ok
}

test_acl()
{
	acl cache=auto
}

test_acl_always()
{
	acl cache=always
}

test_acl_xattr()
{
	need_xattrs
	mkdir share
	guest 'mount:t:/mnt,noacl:/mnt' --share share,tag=t,ownership=xattr
	expect_ok
}

# A large directory, in which others come and go meanwhile.
test_large()
{
	local churn

	mkdir -p share/many
	(cd share/many && seq 2000 | xargs touch)
	(
		cd share/many || exit
		while touch x{1..50}; do
			sleep 0.02
			rm x*
		done
	) &
	churn=$!
	guest 'mount:t:/mnt,list:/mnt/many:2000' \
		--share share,tag=t
	kill $churn
	wait $churn 2>/dev/null
	expect_ok
}

# name_to_handle_at(2) and open_by_handle_at(2), again and again.
test_handles()
{
	mkdir share
	if [ "$(stat -f -c %T share)" = overlayfs ] ||
		[ "$(stat -c %W share)" = 0 ]; then
		skip "files here have no time of birth"
	fi
	guest 'mount:t:/mnt,handles:/mnt' --share share,tag=t
	expect_ok
}

# Several shares, one of them mounted a second time.
test_several()
{
	mkdir a b
	echo -n 1 >a/file
	echo -n 2 >b/file
	guest 'mount:a:/a,mount:b:/b,text:/a/file:1,text:/b/file:2,umount:/a,'\
'mount:a:/a,text:/a/file:1' --share a,tag=a --share b,tag=b
	expect_ok
}

# wait_for_file FILE: until the guest has made it
wait_for_file()
{
	wait_until test -e "$1" || fail "no $1"
}

# The host removes or replaces files while the guest believes in them: it finds
# what the guest then writes.
test_host_change()
{
	mkdir share sync
	echo -n old >share/removed
	echo -n old >share/replaced
	mkdir share/dir
	guest_start a 'mount:t:/mnt,mount:s:/sync,text:/mnt/removed:old,'\
'text:/mnt/replaced:old,errno:2:/mnt/dir/none,put:/sync/ready:x,'\
'await:/sync/go,rewrite:/mnt/removed:new,change:/mnt/replaced:new,'\
'put:/mnt/dir/new:new' \
		--share share,tag=t,cache=always --share sync,tag=s
	wait_for_file sync/ready
	rm share/removed
	echo -n other >share/replaced~
	mv share/replaced~ share/replaced
	rmdir share/dir
	mkdir share/dir
	touch sync/go
	guest_wait a
	expect_ok
	[ "$(cat share/removed share/replaced share/dir/new)" = newnewnew ] ||
		fail "$(head share/* share/dir/*)"
}

# A lock that a program of the host holds keeps the guest out, and the guest
# gets it once the program gives it up.
test_locks_host()
{
	local held

	mkdir share
	"$GUEST/guest" hold:share/f:share/held:share/done:share/over \
		>held.out 2>&1 &
	held=$!
	wait_for_file share/held
	guest 'mount:t:/mnt,held:/mnt/f,put:/mnt/done:x,'\
'wait:/mnt/f:/mnt/over,exits:/mnt/e' --share share,tag=t
	wait "$held" || fail "the host's program: $(cat held.out)"
	expect_status 0
	expect_no_out FAIL
	expect_error "'f' is in use"
}

# Two guests and a program of the host add to one number, four processes and
# more at a time: each addition counts.
test_locks_guests()
{
	local i kind actions times=100

	mkdir share
	for kind in posix flock; do
		rm -f share/*
		for i in a b; do
			actions=mount:t:/mnt,put:/mnt/$i:x,await:/mnt/go
			actions+=,count:/mnt/n:$times:$kind
			guest_start $i "$actions" \
				--share share,tag=t,cache=never
		done
		wait_for_file share/a
		wait_for_file share/b
		touch share/go
		"$GUEST/guest" "count:share/n:$times:$kind" >/dev/null ||
			fail "the host's program"
		for i in a b; do
			guest_wait $i
			expect_ok
		done
		[ "$(cat share/n)" = $((3 * times)) ] ||
			fail "$kind: $(cat share/n), not $((3 * times))"
	done
}

# Two guests that map one file, as a database does that shares memory under
# locks: one alone may, the other is refused; nothing is lost without a word.
test_mapped_guests()
{
	local i actions counted=0

	mkdir share
	for i in a b; do
		actions="mount:t:/mnt,put:/mnt/$i:x,await:/mnt/go"
		actions+=",mapcount:/mnt/n:40:/mnt/lock,put:/mnt/$i.done:x"
		guest_start $i "$actions,await:/mnt/end" --share share,tag=t
	done
	wait_for_file share/a
	wait_for_file share/b
	touch share/go
	wait_for_file share/a.done
	wait_for_file share/b.done
	touch share/end
	for i in a b; do
		guest_wait $i
		expect_status 0
		expect_no_out FAIL
		cp err $i.log
		if grep -q counted out; then
			counted=$((counted + 1))
		else
			expect_out refused
			# The first file that was met so, which may be the lock.
			grep -q "is in use elsewhere" err ||
				fail "no word of it"
		fi
	done
	[ "$counted" -le 1 ] || fail "both have mapped it"
	"$GUEST/guest" "mapped:share/n:$((40 * counted))" >mapped.out ||
		fail "$(cat mapped.out)"
	# The monitor that started second has warned when it started.
	grep -q 'another machine' a.log b.log ||
		fail "no warning"
}

# A guest's own locks, which its kernel keeps.
test_locks_guest()
{
	mkdir share
	touch share/f
	flock share/f sleep 100 &
	guest 'mount:t:/mnt,posix:/mnt:locks,count:/mnt/f:50:flock' \
		--share share,tag=t,locks=guest
	kill $!
	expect_ok
}

test_bad()
{
	guest facts --share /nonexistent,tag=t
	expect_status 2
	expect_error /nonexistent 'No such file'
	touch file
	guest facts --share file,tag=t
	expect_status 2
	expect_error "'file'" 'Not a directory'
	mkdir share
	guest facts --share \
		share,tag=1234567890123456789012345678901234567
	expect_status 2
	expect_error tag '36'
}
