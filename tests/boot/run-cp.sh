# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Files between an instance and the host: `bulkhead cp`.

. "$TOP/tests/boot/run-lib.sh"

# cp_ok ARGUMENT...
cp_ok()
{
	bulkhead cp "$@"
	expect_status 0
	expect_silence
	[ ! -s out ] || fail "something is on standard output"
}

# same_tree DIR DIR
same_tree()
{
	diff -r "$1" "$2" >differences || fail "$1 and $2: $(cat differences)"
}

# Copies in both directions follow Docker's rules for names; "-" is an archive;
# modes and times stay as they are.
test_copy()
{
	make_root
	start one --rm root sleep 1000
	mkdir -p tree/sub
	head -c 300000 /dev/urandom >tree/sub/data
	echo text >tree/file
	chmod 751 tree/file
	ln -s file tree/link
	touch -d '2001-02-03 04:05:06' tree/sub/data
	cp_ok tree one:/made
	cp_ok tree one:/tmp
	cp_ok tree/. one:/tmp/tree/sub
	cp_ok tree/file one:/made/sub/
	cp_ok -L tree/link one:plain
	bulkhead exec one sh -c 'cd /made; cat file; readlink link
		stat -c "%a %u:%g" file; stat -c %Y sub/data; cat sub/file
		ls -a /tmp /tmp/tree/sub; stat -c %F /plain'
	expect_ok
	printf '%s\n' text file '751 0:0' "$(stat -c %Y tree/sub/data)" text \
		/tmp: . .. tree '' /tmp/tree/sub: . .. data file link sub \
		'regular file' | diff - out >differences ||
		fail "what is there: $(cat differences)"
	cp_ok one:/made back
	same_tree tree/sub/data back/sub/data
	[ "$(stat -c '%a %Y' back/file)" = "751 $(stat -c %Y tree/file)" ] ||
		fail "mode and time"
	[ "$(readlink back/link)" = file ] || fail "the link"
	mkdir into
	cp_ok one:/made into
	same_tree back into/made
	cp_ok one:/made/. into
	same_tree back/sub into/sub
	cp_ok one:/proc/version version
	grep -q Linux version || fail "a file of /proc"
	"$BULKHEAD" cp one:/made/sub - >sub.tar || fail "an archive comes"
	tar -tf sub.tar | sort | tr '\n' ' ' >list
	[ "$(cat list)" = 'sub/ sub/data sub/file ' ] ||
		[ "$(cat list)" = 'sub sub/data sub/file ' ] ||
		fail "its names: $(cat list)"
	"$BULKHEAD" cp - one:/tmp <sub.tar || fail "an archive goes"
	bulkhead exec one cat /tmp/sub/file
	expect_out text
	bulkhead cp one:/none x
	expect_status 1
	expect_error one: none
	bulkhead cp tree one:/made/file
	expect_status 1
	expect_error 'cannot copy a directory'
	bulkhead cp none one:/
	expect_status 1
	expect_error none
	bulkhead cp one:/made none/x
	expect_status 1
	if [ -e none ] || [ -e x ]; then
		fail "something was made"
	fi
	bulkhead cp one:/made two:/x
	expect_status 2
	bulkhead cp tree there
	expect_status 2
	# The processes that cp has started end with it, and the instance is not
	# hurt.
	bulkhead exec one ps
	expect_ok
	expect_no_out pack
	bulkhead kill one
	bulkhead cp one:/made x
	expect_status 1
	expect_error one
	expect_nothing_left
}

# Links lead to the container's files, whatever they say; owners with -a.
test_copy_hostile()
{
	make_root
	start one --rm --user 1000:1000 root sleep 1000
	echo secret >secret
	bulkhead exec -u 0 one sh -c "mkdir -p /a/b /out && cd /a &&
		ln -s $PWD abs && ln -s ../../../../.. up &&
		ln -s /proc/1/root magic && echo mine >b/own &&
		chown 12:34 b/own && chmod 6755 b/own && ln -s /a/b /link &&
		mknod null c 1 3 && mkfifo pipe"
	expect_ok
	bulkhead cp one:/a/abs/secret x
	expect_status 1
	bulkhead cp one:/a/magic/etc/passwd x
	expect_status 1
	[ ! -e x ] || fail "the host's file came back"
	cp_ok one:/a/up/../../../link/own through
	[ "$(cat through)" = mine ] || fail "a link in the container"
	[ "$(stat -c %a through)" = 755 ] || fail "set-user-ID came along"
	bulkhead cp -a one:/a mine
	expect_status 0
	grep -q '1 device nodes are left out' err || fail "no word of the device"
	[ "$(id -u)" != 0 ] ||
		[ "$(stat -c '%u:%g %a' mine/b/own)" = '12:34 6755' ] ||
		fail "owner and mode"
	if [ ! -p mine/pipe ] || [ ! -L mine/abs ] || [ -e mine/null ]; then
		fail "what was made"
	fi
	# Into the container, through its links, and not beyond.
	cp_ok secret one:/a/up/out/in
	bulkhead exec one cat /out/in
	expect_out secret
	cp_ok -a secret one:/a/up/out/own
	bulkhead exec one stat -c %u /out/own
	expect_out "$(id -u)"
	bulkhead cp secret one:/a/magic/out/x
	expect_status 1
	bulkhead kill one
	expect_nothing_left
}

test_copy_read_only()
{
	make_root
	start one --rm --read-only --tmpfs /tmp root sleep 1000
	echo x >x
	bulkhead cp x one:/x
	expect_status 1
	expect_error 'read-only'
	cp_ok x one:/tmp
	bulkhead exec one cat /tmp/x
	expect_ok
	bulkhead kill one
	expect_nothing_left
}
