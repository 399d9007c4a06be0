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
	run --rm -v /nonexistent:/x root true
	expect_status 125
	expect_error /nonexistent
	run --rm --memory much root true
	expect_status 125
	expect_error much
	run --rm --cpus 1.2345 root true
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

# One line answers what people type out of habit, or wrongly, and says what is
# wrong.
test_bad_words()
{
	local words

	make_root
	echo text >root/etc/text
	while read -r words; do
		# shellcheck disable=SC2086 # words they are
		run --rm ${words%%|*}
		expect_status 125
		# shellcheck disable=SC2086
		expect_error ${words#*|}
	done <<-'END'
	ubuntu:22.04 true|ubuntu:22.04 skopeo
	./nowhere true|nowhere
	--restart always root true|--restart service
	--pid=host root true|--pid kernel
	--gpus all root true|--gpus devices
	-P root true|-P -p
	--pull never root true|--pull skopeo
	--cpus 0.001 root true|--cpus 1.5
	--network host root true|host user
	--hostname a/b root true|--hostname a/b
	-v /data root true|/data SOURCE:TARGET
	-v .:data root true|data begins
	-v .:/x:rx root true|rx ro
	-v .:/ root true|/
	-u nobody2 root true|nobody2
	-w etc root true|--workdir etc
	--kernel root/etc/text root true|root/etc/text kernel
	--max-image-size x root true|--max-image-size
	--ulimit x root true|--ulimit
	--memory 1 root true|memory 32M
	--label=a --nothing root true|--nothing
	END
	run --rm -w /etc/text root true
	expect_status 126
	expect_error /etc/text
	bulkhead pull ubuntu
	expect_status 2
	expect_error pull skopeo
	bulkhead commit one
	expect_status 2
	expect_error commit
	expect_nothing_left
}

# Without what every machine needs.
test_no_kvm()
{
	need_root
	make_root
	command='bulkhead run, without /dev/kvm'
	status=0
	unshare -m sh -c 'busybox mount -t tmpfs none /dev &&
		mknod /dev/null c 1 3 && exec "$@"' - \
		timeout -k 5 "$LIMIT" "$BULKHEAD" run --rm --network none root \
		true >out 2>err </dev/null || status=$?
	expect_status 125
	grep -q /dev/kvm err || fail "no word of /dev/kvm"
	expect_nothing_left
}

# `run` refuses an image that is too large, a file that is no image, and one
# whose names lead out of its tree.
test_bad_images()
{
	export BULKHEAD_STORE=$PWD/store

	make_root
	make_archive image.tar
	run --rm --max-image-size 100k image.tar
	expect_status 125
	expect_error image.tar 'than'
	head -c 10000 image.tar >cut.tar
	run --rm cut.tar
	expect_status 125
	expect_error cut.tar
	head -c 10000 /dev/urandom >noise.tar
	run --rm noise.tar
	expect_status 125
	expect_error noise.tar
	mkdir -p root/sub
	make_archive hostile.tar -P --transform 's|^\./sub$|../../escaped|'
	run --rm hostile.tar
	expect_status 125
	expect_error hostile.tar
	[ -z "$(find . -name escaped)" ] || fail "it got out"
	[ -z "$(find store -name busybox)" ] || fail "left in the store"
	expect_nothing_left
}

# The same image in each of the forms that are known; one of them is run.
# tests/check-images has those that other people's programs write.
test_image_forms()
{
	local form forms=(image.tar.gz layout layout:tag oci.tar)

	export BULKHEAD_STORE=$PWD/store

	make_root
	make_archive image.tar
	gzip -k image.tar
	make_layout layout
	tar -C layout -cf oci.tar .
	if command -v zstd >/dev/null; then
		zstd -q image.tar
		forms+=(image.tar.zst)
	fi
	run --rm --entrypoint sh image.tar -c 'echo $FROM; pwd; id -u'
	expect_ok
	[ "$(tr '\n' ' ' <out)" = 'image /tmp 0 ' ] || fail "surroundings"
	for form in "${forms[@]}"; do
		bulkhead tag "$form" "form-of-${form//[.:]/-}"
		expect_ok
	done
	[ "$(find store -name busybox | wc -l)" -eq 1 ] ||
		fail "it was unpacked more than once"
	run --rm layout:other
	expect_status 125
	expect_error other
	rm -r layout ./*.tar ./*.tar.*
	bulkhead tag test:1 still:there
	expect_ok
	bulkhead rmi still:there
	expect_status 0
	bulkhead rmi test:1
	expect_status 0
	run --rm test:1
	expect_status 125
	expect_error test:1
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
}

test_entrypoint()
{
	make_root
	run --rm --entrypoint echo root -- one two
	expect_ok
	[ "$(cat out)" = 'one two' ] || fail "output"
}

test_image()
{
	export BULKHEAD_STORE=$PWD/store

	make_root
	make_archive image.tar
	run --rm image.tar
	expect_ok
	[ "$(cat out)" = 'says nothing' ] || fail "output"
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
	timeout -k 5 "$LIMIT" "$BULKHEAD" run "${how[@]}" --rm --network none \
		root cat <in >out 2>err || status=$?
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
	local bytes=$((8 << 20))

	make_root
	run --rm root head -c $bytes /dev/zero
	expect_ok
	[ "$(stat -c %s out)" -eq $bytes ] || fail "$(stat -c %s out) bytes"
	# Nobody reads the output: that is no error, and the run ends all the
	# same.
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

# As much as one request can carry, of the root and of a volume.
test_read_ahead()
{
	make_root
	mkdir data
	run --rm --rootfs-write -v "$PWD/data:/data" root \
		sh -c 'cat /sys/class/bdi/*/read_ahead_kb'
	expect_status 0
	[ "$(cat out)" = "1024
1024" ] || fail "read ahead: $(cat out)"
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

# All of one device, and each a file system of its own.
test_many_volumes()
{
	local i volumes=()

	make_root
	for i in $(seq 20); do
		mkdir "data$i"
		volumes+=(-v "./data$i:/many/$i")
	done
	echo one >data1/file
	run --rm "${volumes[@]}" -v ./data1/file:/many/file:ro root \
		sh -c 'for d in /many/?/ /many/??/; do echo "$d" >"$d/n"; done
			cat /many/file && ! ln /many/1/n /many/2/other &&
			mv /many/1/n /many/2/moved && cat /many/2/moved &&
			stat -c %d / /many/?/ /many/??/ | sort | uniq -d |
			sed "s/^/twice: /"'
	expect_status 0
	expect_out one
	expect_out /many/1/
	expect_no_out twice
	[ "$(cat data20/n data2/moved)" = $'/many/20/\n/many/1/' ] ||
		fail "what the host sees"
	[ ! -e data1/n ] || fail "it was moved"
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

test_named_volume()
{
	export BULKHEAD_STORE=$PWD/store

	make_root
	run --rm -v kept:/data root sh -c 'echo there >/data/file'
	expect_ok
	[ -e store/volumes/kept/file ] || fail "it is no plain directory"
	run -d --name one --rm -v kept:/data:ro root sh -c '
		cat /data/file; rm /data/file || exec sleep 1000'
	wait_until logged one there || fail "its file"
	[ -e store/volumes/kept/file ] || fail "a read-only file was removed"
	bulkhead volume rm kept
	expect_status 1
	expect_error kept used
	bulkhead rm -f one
	bulkhead volume
	expect_out kept
	bulkhead volume rm kept
	expect_ok
	[ ! -e store/volumes/kept ] || fail "it is still there"
	bulkhead volume rm kept
	expect_status 1
	bulkhead volume create ../kept
	expect_status 1
	bulkhead volume create other
	expect_ok
	bulkhead volume ls -q
	[ "$(cat out)" = other ] || fail "the list of volumes"
	expect_nothing_left
}

test_mount()
{
	export BULKHEAD_STORE=$PWD/store

	make_root
	mkdir data
	echo there >data/file
	run --rm --mount "type=bind,source=$PWD/data,target=/data,readonly" \
		--mount type=volume,src=kept,dst=/kept \
		--mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700 root \
		sh -c 'cat /data/file; ! echo x >/data/x && echo x >/kept/x &&
			stat -c %a /t && df /t'
	expect_status 0
	expect_out there
	expect_out 700
	expect_out 1024
	[ -e store/volumes/kept/x ] || fail "the volume"
	run --rm --mount type=odd,dst=/x root true
	expect_status 125
	expect_error odd bind
	run --rm --mount type=bind,dst=/x root true
	expect_status 125
	expect_error src=
	run --rm --mount type=bind,src=.,dst=/x,odd=1 root true
	expect_status 125
	expect_error odd
}

test_machine()
{
	make_root
	run --rm --memory 200m --cpus 1.5 root sh -c 'nproc; free -m |
		sed -n "s/^Mem: *\([0-9]*\) .*/\1/p"
		cat /sys/fs/cgroup/cpu.max'
	expect_ok
	[ "$(sed -n 1p out)" -eq 2 ] || fail "CPUs"
	[ "$(sed -n 2p out)" -le 200 ] || fail "memory"
	[ "$(sed -n 3p out)" = '150000 100000' ] || fail "a part of the CPUs"
}

test_capabilities()
{
	make_root
	run --rm --cap-drop ALL --cap-add chown --ulimit nofile=123 \
		--security-opt no-new-privileges root sh -c '
		grep -E "^(CapEff|NoNewPrivs):" /proc/self/status; ulimit -n'
	expect_ok
	printf '%s\n' 'CapEff:	0000000000000001' 'NoNewPrivs:	1' 123 |
		diff - out || fail "not what was asked for"
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
