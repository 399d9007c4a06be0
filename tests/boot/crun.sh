# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Containers that crun runs in the guest pass the tests of the others.

. "$TOP/tests/boot/run-lib.sh"

# same FILE TEST: that one, with crun.
same()
{
	command -v crun >/dev/null || skip "no crun"
	. "$TOP/tests/boot/$1.sh"
	how=(--guest-runtime crun)
	"test_$2"
}

test_run_echo()
{
	same run echo
}

test_run_status()
{
	same run status
}

test_run_not_found()
{
	same run not_found
}

test_run_not_executable()
{
	same run not_executable
}

test_run_surroundings()
{
	same run surroundings
}

test_run_entrypoint()
{
	same run entrypoint
}

test_run_image()
{
	same run image
}

test_run_stdin()
{
	same run stdin
}

test_run_streams()
{
	same run streams
}

test_run_bulk()
{
	same run bulk
}

test_run_overlay()
{
	same run overlay
}

test_run_read_only()
{
	same run read_only
}

test_run_rootfs_write()
{
	same run rootfs_write
}

test_run_volume()
{
	same run volume
}

test_run_volume_file()
{
	same run volume_file
}

test_run_named_volume()
{
	same run named_volume
}

test_run_mount()
{
	same run mount
}

test_run_machine()
{
	same run machine
}

test_run_capabilities()
{
	same run capabilities
}

test_run_terminal()
{
	same run terminal
}

test_agent_surroundings()
{
	same agent surroundings
}

test_agent_privileged()
{
	same agent privileged
}

test_agent_users()
{
	same agent users
}

test_agent_hostile_links()
{
	same agent hostile_links
}

test_agent_mounts()
{
	same agent mounts
}

test_agent_tmpfs()
{
	same agent tmpfs
}

test_agent_read_only()
{
	same agent read_only
}

test_agent_devices()
{
	same agent devices
}

test_agent_forged_kill()
{
	same agent forged_kill
}

test_agent_pids_limit()
{
	same agent pids_limit
}

test_agent_own_limits()
{
	same agent own_limits
}

test_agent_fork_bomb()
{
	same agent fork_bomb
}

test_agent_large_request()
{
	same agent large_request
}

test_agent_init_reaps()
{
	same agent init_reaps
}

test_agent_no_memory()
{
	same agent no_memory
}

test_agent_many_sessions()
{
	same agent many_sessions
}

test_missing()
{
	make_root
	mkdir empty
	command='bulkhead run --guest-runtime crun, which is not there'
	status=0
	PATH=$PWD/empty "$BULKHEAD" run --guest-runtime crun --network none \
		--rm root true >out 2>err </dev/null || status=$?
	expect_status 125
	expect_error crun 'apt-get install crun'
	run --guest-runtime runc --rm root true
	expect_status 125
	expect_error runc direct
	expect_nothing_left
}

# Another process's terminal and signals; the stop of the main one.
test_exec_and_stop()
{
	command -v crun >/dev/null || skip "no crun"
	how=(--guest-runtime crun)
	make_root
	run_start one --rm --hostname box root sh -c '
		trap "echo bye; exit 4" TERM; echo up
		while :; do sleep 0.1; done'
	wait_for one.out up
	status=0
	command='bulkhead exec -it one sh'
	timeout -k 5 "$LIMIT" "$GUEST/pty" 'expect=# ' 'type=stty size\r' \
		'expect=24 80' size=100x40 'type=stty size\r' 'expect=40 100' \
		'type=echo A$((1+1))B; cat\r' 'expect=A2B' 'type=more\r' \
		'expect=more\r\nmore' 'type=\x03' 'expect=^C' 'expect=# ' \
		'type=hostname; exit 3\r' 'expect=box' -- "$BULKHEAD" exec -it one sh >out 2>err ||
		status=$?
	expect_status 3
	bulkhead exec one sh -c 'kill -TERM $$'
	expect_status 143
	bulkhead exec one /etc/group
	expect_status 126
	# These may have ended before the agent learns their process numbers.
	for wanted in 0 1 0 1; do
		bulkhead exec one sh -c "exit $wanted"
		expect_status "$wanted"
	done
	bulkhead stop one
	expect_status 0
	guest_wait one
	expect_status 4
	expect_out bye
	expect_nothing_left
}

# A profile of Docker's format, for the command and for those beside it.
test_seccomp()
{
	local runtime runtimes=(direct)

	! command -v crun >/dev/null || runtimes+=(crun)
	make_root
	cat >profile.json <<-'END'
		{"defaultAction": "SCMP_ACT_ALLOW",
		 "archMap": [{"architecture": "SCMP_ARCH_X86_64",
			"subArchitectures": ["SCMP_ARCH_X86"]}],
		 "syscalls": [
			{"names": ["mkdir", "mkdirat"], "errnoRet": 28,
			 "action": "SCMP_ACT_ERRNO"},
			{"names": ["symlink", "symlinkat"],
			 "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
			 "excludes": {"caps": ["CAP_CHOWN"]}}]}
	END
	for runtime in "${runtimes[@]}"; do
		how=(--guest-runtime "$runtime")
		run_start one --rm --security-opt seccomp=profile.json root \
			sh -c 'ln -s a /tmp/link && mkdir /tmp/x 2>&1
				echo up; sleep 1000'
		wait_for one.out up
		bulkhead exec -u user one \
			sh -c 'mkdir /tmp/y; grep Seccomp: /proc/self/status'
		expect_status 0
		expect_out "Seccomp:$(printf '\t')2"
		grep -qF 'No space' err ||
			fail "$runtime: a call is not filtered by exec"
		bulkhead stop -t 0 one
		guest_wait one
		expect_status 137
		expect_out 'No space'
	done
	echo '[]' >profile.json
	run --rm --security-opt seccomp=profile.json root true
	expect_status 125
	expect_error profile.json defaultAction
	expect_nothing_left
}

test_watch_top()
{
	same run-watch top
}

test_cp_copy()
{
	same run-cp copy
}
