# shellcheck shell=bash disable=SC2034,SC2154,SC2016 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# `bulkhead run` in the foreground: the command, what it sees, and its status.

. "$TOP/tests/boot/run-lib.sh"

test_echo()
{
	make_root
	run --rm root echo hello
	expect_ok
	[ "$(cat out)" = hello ] || fail "output"
	expect_nothing_left
}

test_status()
{
	make_root
	run --rm root sh -c 'exit 7'
	expect_status 7
	expect_silence
	run --rm root sh -c 'sh -c "kill -9 \$\$"; exit $?'
	expect_status 137
	run --rm --init root sh -c 'kill -TERM $$'
	expect_status 143
	expect_nothing_left
}

test_not_found()
{
	make_root
	run --rm root /bin/nothing
	expect_status 127
	expect_error /bin/nothing
	run --rm root nothing
	expect_status 127
	expect_error nothing
	expect_nothing_left
}

test_not_executable()
{
	make_root
	echo text >root/etc/text
	run --rm root /etc/text
	expect_status 126
	expect_error /etc/text
	run --rm root /etc
	expect_status 126
	expect_nothing_left
}

test_usage()
{
	make_root
	run --rm /nonexistent true
	expect_status 125
	expect_error /nonexistent
	run --rm root
	expect_status 125
	expect_error command
	run --rm --no-such-option root true
	expect_status 125
	expect_error no-such-option
	run
	expect_status 125
	expect_error root
	run --rm -v nowhere:/x root true
	expect_status 125
	run --rm -v /nonexistent:/x root true
	expect_status 125
	expect_error /nonexistent
	run --rm --memory much root true
	expect_status 125
	expect_error much
	run --rm --cpus 1.5 root true
	expect_status 125
	run --rm --kernel /nonexistent root true
	expect_status 125
	run --rm --cap-add NOTHING root true
	expect_status 125
	expect_error NOTHING
	run --rm --name -x root true
	expect_status 125
	run --rm -it root true
	expect_status 125
	expect_error terminal
	bulkhead run --rm --network nothing root true
	expect_status 125
	expect_error nothing
	expect_nothing_left
}

test_surroundings()
{
	make_root
	run --rm --name surroundings -e A=1 -e 'B=two words' -e HOME -w /tmp \
		-u user:more root sh -c 'id -u; id -g; pwd; hostname; echo $A;
			echo "$B"; echo pid $$; echo "$PATH"'
	expect_ok
	printf '%s\n' 1000 1001 /tmp surroundings 1 'two words' 'pid 1' \
		/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin |
		diff - out || fail "what the command sees"
	run --rm --hostname other root hostname
	[ "$(cat out)" = other ] || fail "host name"
}

test_entrypoint()
{
	make_root
	run --rm --entrypoint echo root one two
	expect_ok
	[ "$(cat out)" = 'one two' ] || fail "output"
	run --rm root -- echo dashes
	[ "$(cat out)" = dashes ] || fail "output"
}

test_image()
{
	export BULKHEAD_STORE=$PWD/store

	make_root
	make_archive image.tar
	run --rm image.tar
	expect_ok
	[ "$(cat out)" = 'says nothing' ] || fail "output"
	run --rm --entrypoint sh image.tar -c 'pwd; echo $FROM; echo x >/x'
	expect_ok
	[ "$(tr '\n' ' ' <out)" = '/tmp image ' ] || fail "surroundings"
	rm image.tar
	run --rm test:1 this
	expect_ok
	[ "$(cat out)" = 'says this' ] || fail "what the image left there"
	run --rm --rootfs-write test:1
	expect_status 125
	run -d --name one --rm --entrypoint sleep test:1 1000
	bulkhead rmi test:1
	[ "$status" -ne 0 ] || fail "it was removed while in use"
	bulkhead rm -f one
	bulkhead rmi test:1
	expect_status 0
	expect_nothing_left
}

test_stdin()
{
	make_root
	echo typed >in
	status=0
	command='bulkhead run -i root cat'
	timeout -k 5 "$LIMIT" "$BULKHEAD" run "${how[@]}" --rm --network none \
		-i root cat <in >out 2>err || status=$?
	expect_ok
	[ "$(cat out)" = typed ] || fail "output"
	run --rm root cat
	expect_ok
	[ ! -s out ] || fail "without -i there is no input"
}

test_streams()
{
	make_root
	run --rm root sh -c 'echo out; echo err >&2'
	expect_status 0
	[ "$(cat out)" = out ] || fail "standard output"
	[ "$(cat err)" = err ] || fail "standard error"
}

test_bulk()
{
	local bytes=$((32 << 20))

	! is_slow || bytes=$((8 << 20))
	make_root
	run --rm root head -c $bytes /dev/zero
	expect_ok
	[ "$(stat -c %s out)" -eq $bytes ] || fail "$(stat -c %s out) bytes"
	# Nobody reads: neither an error nor an end that never comes.
	timeout -k 5 "$LIMIT" "$BULKHEAD" run "${how[@]}" --rm --network none \
		root yes 2>/dev/null | head -n 1 >out || :
	expect_out y
	expect_nothing_left
}

test_overlay()
{
	make_root
	run --rm root sh -c 'echo new >/etc/new; rm /etc/group; cat /etc/new'
	expect_ok
	[ ! -e root/etc/new ] || fail "the root was written to"
	[ -e root/etc/group ] || fail "the root lost a file"
}

test_read_only()
{
	make_root
	run --rm --read-only --tmpfs /tmp:size=1m root \
		sh -c 'echo x >/tmp/x && cat /tmp/x; echo x >/etc/x'
	[ "$status" -ne 0 ] || fail "it was written to"
	expect_out x
	[ ! -e root/etc/x ] || fail "the root was written to"
}

test_rootfs_write()
{
	make_root
	run --rm --rootfs-write root sh -c 'echo kept >/etc/kept'
	expect_ok
	[ "$(cat root/etc/kept)" = kept ] || fail "nothing was written"
}

test_volume()
{
	make_root
	mkdir data
	echo there >data/file
	run --rm -v "$PWD/data:/deep/data" -v ./data:/ro:ro root \
		sh -c 'cat /deep/data/file && echo back >/deep/data/back &&
			cat /ro/back && ! echo x >/ro/x'
	expect_status 0
	expect_out there
	expect_out back
	[ "$(cat data/back)" = back ] || fail "the host does not see it"
	[ ! -e data/x ] || fail "read-only was written to"
}

test_volume_file()
{
	make_root
	mkdir data
	echo there >data/file
	echo secret >data/other
	run --rm -v ./data/file:/etc/deep/file -v ./data/file:/etc/group:ro \
		root sh -c 'cat /etc/deep/file /etc/group &&
			echo back >/etc/deep/file && cat /etc/group
			! echo x >/etc/group; ! rm /etc/deep/file
			mount; ls -la /etc/deep'
	expect_status 0
	[ "$(head -n 3 out | tr '\n' ' ')" = 'there there back ' ] ||
		fail "what the files hold"
	[ "$(cat data/file)" = back ] || fail "the host does not see it"
	expect_no_out other
}

test_machine()
{
	make_root
	run --rm --memory 200m --cpus 2 root sh -c 'nproc; free -m |
		sed -n "s/^Mem: *\([0-9]*\) .*/\1/p"'
	expect_ok
	[ "$(sed -n 1p out)" -eq 2 ] || fail "CPUs"
	[ "$(sed -n 2p out)" -le 200 ] || fail "memory"
}

test_capabilities()
{
	make_root
	run --rm root grep CapEff /proc/self/status
	expect_out 00000000a80425fb
	run --rm --cap-drop ALL --cap-add chown root \
		grep CapEff /proc/self/status
	expect_out 0000000000000001
	run --rm --security-opt no-new-privileges --ulimit nofile=123 root \
		sh -c 'grep NoNewPrivs /proc/self/status; ulimit -n'
	expect_out 1
	expect_out 123
}

test_terminal()
{
	make_root
	status=0
	command='bulkhead run -it root sh'
	timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' 'type=stty size\r' \
		'expect=24 80' size=100x40 'type=stty size\r' 'expect=40 100' \
		'type=exit 3\r' -- "$BULKHEAD" run "${how[@]}" --rm \
		--network none -it root sh >out 2>err || status=$?
	expect_status 3
	expect_nothing_left
}
