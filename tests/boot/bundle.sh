# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# OCI bundles as they are. The files are those that crun, runc, podman and
# containerd's ctr have written; see tests/fuzz/corpus/spec.

. "$TOP/tests/boot/run-lib.sh"

# make_bundle NAME CHANGE...: a bundle `one` of the file that NAME wrote, with
# the root `one/merged`. CHANGE is Perl that changes $c, the file's content.
make_bundle()
{
	local name=$1

	shift
	make_root
	mkdir one
	mv root one/merged
	TO=$PWD/one perl -MJSON::PP -0777 -ne 'BEGIN { $code = pop }
		s|/var/lib/containers/one|$ENV{TO}|g; our $c = decode_json($_);
		$c->{root}{path} = "merged"; eval $code; die $@ if $@;
		print encode_json($c)' \
		"$TOP/tests/fuzz/corpus/spec/$name.json" "$*" >one/config.json
}

# The default file of two runtimes: everything in it is done.
test_runtimes()
{
	local name

	for name in crun runc; do
		make_bundle $name '
			$c->{process}{args} = ["sh", "-c", "exit 1"];
			$c->{process}{terminal} = JSON::PP::false;
			push @{$c->{mounts}}, {destination => "/rel",
				type => "none", source => "files",
				options => ["bind", "rro", "rprivate"]};
			push @{$c->{mounts}}, {destination => "/etc",
				type => "tmpfs", source => "tmpfs",
				options => ["rprivate", "tmpcopyup"]};
			$c->{process}{args}[2] = q(
			cut -d: -f1 /etc/passwd && echo x >/etc/new
			echo host $(hostname) files $(ulimit -n)
			grep -E "^(Cap(Eff|Bnd|Amb)|NoNewPrivs):" \
				/proc/self/status
			touch /x 2>/dev/null || echo root is read-only
			touch /rel/x 2>/dev/null || cat /rel/file
			cat /proc/keys | wc -c
			(echo x >/proc/sys/kernel/hostname) 2>/dev/null ||
				echo sys is read-only
			mknod /dev/mem c 1 1 2>/dev/null || echo no mknod
			echo x >/dev/null && df -k /dev/shm | sed 1d |
				awk "{ print \$2 }"
			cut -d" " -f2 /proc/mounts | head -n 8 | tr "\n" " "
			exit 7)'
		mkdir one/files
		echo relative >one/files/file
		run --rm --bundle one
		expect_status 7
		{
			printf '%s\n' root user
			printf 'host %s files 1024\n' $name
			printf 'Cap%s:\t00000000%s\n' Eff 20000420 Bnd 20000420 \
				Amb 00000000
			printf '%s\n' 'NoNewPrivs:	1' 'root is read-only' \
				relative 0 'sys is read-only' 'no mknod' 65536
			printf '%s ' / /proc /dev /dev/pts /dev/shm /dev/mqueue \
				/sys /sys/fs/cgroup
		} | diff - out || fail "not what $name's file says"
		[ ! -e one/merged/proc ] || fail "something was made in the root"
		rm -rf one
	done
	expect_nothing_left
}

# Two engines' files: binds of files, a writable root, a terminal.
test_engines()
{
	local file

	make_bundle podman '$c->{process}{user}{umask} = 7;
		$c->{process}{oomScoreAdj} = 100;
		$c->{process}{args}[2] = q(cat /etc/hosts
		cat /etc/hostname /run/.containerenv; echo x >/dev/shm/x
		echo y >/written; cat /sys/fs/cgroup/pids.max; ulimit -u
		cat /proc/sys/net/ipv4/ping_group_range; id -u
		grep Seccomp: /proc/self/status
		umask; cat /proc/self/oom_score_adj)'
	for file in hosts hostname .containerenv; do
		echo "$file of podman" >one/$file
	done
	mkdir one/shm
	# The one who reaps has the filter, too.
	run --name two --init --bundle one
	expect_ok
	printf '%s of podman\n' hosts hostname .containerenv >expected
	printf '%s\n' 2048 32768 '0	0' 0 'Seccomp:	2' \
		0007 100 >>expected
	diff expected out || fail "not what the file says"
	[ "$(cat one/merged/written)" = y ] || fail "the root was not written to"
	[ "$(cat one/shm/x)" = x ] || fail "the bind was not written to"
	rm one/merged/written
	bulkhead start -a two
	expect_ok
	diff expected out || fail "start runs something else"
	[ "$(cat one/merged/written)" = y ] || fail "start has another root"
	bulkhead rm two
	expect_status 0
	rm -rf one
	make_bundle ctr '$c->{process}{args}[2] =
		q(tty; stty size; echo $(ls -A /run) empty);
		$c->{process}{terminal} = JSON::PP::true;
		# Every container has terminals.
		@{$c->{mounts}} = grep { $_->{destination} !~ m|^/dev| }
			@{$c->{mounts}};
		$c->{process}{consoleSize} = {height => 7, width => 31};'
	bulkhead run --rm --bundle one
	expect_ok
	tr -d '\r' <out | diff <(printf '/dev/pts/0\n7 31\nempty\n') - ||
		fail "not the terminal that the file says"
	expect_nothing_left
}

# The same filter, by crun in the guest.
test_crun()
{
	command -v crun >/dev/null || skip "no crun"
	make_bundle podman '$c->{process}{args}[2] =
		q(grep Seccomp: /proc/self/status; cat /etc/hosts)'
	for file in hosts hostname .containerenv; do
		echo "$file of podman" >one/$file
	done
	mkdir one/shm
	run --rm --guest-runtime crun --bundle one
	expect_ok
	printf 'Seccomp:\t2\nhosts of podman\n' | diff - out ||
		fail "not what the file says"
	expect_nothing_left
}

# refused CHANGE TEXT [OPTION]...
refused()
{
	local change=$1 text=$2

	shift 2
	rm -rf one
	make_bundle runc "$change"
	run --rm "$@" --bundle one
	expect_status 125
	expect_error "$text"
	[ "$(wc -l <err)" -eq 1 ] || fail "not one line"
}

# A wish that is not fulfilled is refused by its name, in one line.
# tests/tools/container/test-machine.c and tests/tools/spec/test-spec.c have
# more of them.
test_refused()
{
	refused '$c->{hooks}{prestart} = [{path => "/bin/true"}]' \
		'hooks: is not supported'
	refused '$c->{mounts}[1]{options} = ["rshared"]' \
		"mount on '/dev': option 'rshared' is not supported"
	refused '$c->{linux}{resources}{cpu} = {quota => 3300000, period =>
		100000}' 'a virtual machine has up to'
	run --rm --bundle one root
	expect_status 125
	expect_error 'nothing follows'
	run --rm --bundle nowhere
	expect_status 125
	expect_nothing_left
}
