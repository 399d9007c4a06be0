# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC2120 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker's own daemon, with everything of its own in this directory.

export DOCKER_HOST=unix://$PWD/docker.sock DOCKER_CONFIG=$PWD/docker-config

# containerd_config DIRECTORY: its own dockerd would give containerd 15 s to
# start, which a busy machine takes.
containerd_config()
{
	cat <<-END
		version = 2
		root = "$1/containerd"
		state = "$1/run/containerd"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$1/containerd.sock"
		[plugins."io.containerd.internal.v1.opt"]
		path = "$1/opt"
	END
}

# until_there COMMAND...: a daemon that ends, or never answers, fails the test
until_there()
{
	local end=$((SECONDS + LIMIT))

	until "$@" >/dev/null 2>&1; do
		if [ ! -d "/proc/$dockerd" ] || [ "$SECONDS" -ge "$end" ]; then
			fail "dockerd does not start: $(tail -n 5 docker.log)"
		fi
		sleep 0.1
	done
}

# Options about networks: none of the host's is touched.
docker_network=(--bridge none --iptables=false --ip6tables=false
	--ip-forward=false --ip-masq=false)

# A root that has the daemon and what belongs to it; "": the host's own.
docker_root=''

# The command that starts daemons, in a network namespace for example.
engine_enter=()

# start_engine NAME SOCKET [OPTION]...: in namespaces that end with it, and so do
# its processes and mounts; what it has is in the directory NAME. Sets `engine`
# to its process.
start_engine()
{
	local place=$PWD/$1 socket=$2

	shift 2
	mkdir -p "$place/run" "$place/data"
	containerd_config "$place" >"$place/containerd.toml"
	"${engine_enter[@]}" unshare --mount --pid --fork --kill-child --mount-proc \
		"$TOP/tests/engine-start" "$place" "$docker_root" \
		"$PWD" "$TOP" "${BULKHEAD%/*}" "${BULKHEAD_KERNEL%/*}" -- \
		--host "unix://$socket" \
		--cgroup-parent "/bulkhead-test-$BULKHEAD_TEST_RUN" \
		"${docker_network[@]}" "$@" >"$place.log" 2>&1 </dev/null &
	engine=$!
}

# start_dockerd [OPTION]...
start_dockerd()
{
	unshare --mount --pid --fork --mount-proc true 2>/dev/null ||
		skip "no namespaces"
	start_engine docker "${DOCKER_HOST#unix://}" "$@"
	dockerd=$engine
	trap stop_dockerd EXIT
	until_there docker version
}

# restart_dockerd SIGNAL: ends the daemon alone, which is started again
restart_dockerd()
{
	touch docker/again
	pkill -"$1" -f -- "^dockerd .*--pidfile $PWD/docker/pid" ||
		fail "no dockerd to be restarted"
	wait_until [ ! -e docker/again ]
	until_there docker version
}

# Its directories of cgroups, which no namespace takes along.
docker_cgroups()
{
	find /sys/fs/cgroup -depth -type d \
		-path "*/bulkhead-test-$BULKHEAD_TEST_RUN*" 2>/dev/null
}

sweep_cgroups()
{
	for _ in $(seq 300); do
		docker_cgroups | xargs -r rmdir 2>/dev/null && break
		sleep 0.1
	done
}

stop_dockerd()
{
	end_all
	[ -n "${dockerd-}" ] || return
	kill -KILL "$dockerd" 2>/dev/null
	wait "$dockerd" 2>/dev/null
	sweep_cgroups
	dockerd=''
}

# documented HEADING: the commands in this section of docs/ENGINES, one a line
documented()
{
	awk -v title="$1" '/^--+$/ { on = last == title }
		on { print last }
		{ last = $0 }' "$TOP/docs/ENGINES" >section
	"$TOP/tests/doc-commands" section
}

# run_documented COMMAND: fails the test where it fails
run_documented()
{
	command=$1
	status=0
	timeout -k 5 "$LIMIT" bash -c "cd '${place-.}' && $1" >out 2>err \
		</dev/null || status=$?
	[ "$status" -eq 0 ] || fail "it does not work as docs/ENGINES has it"
}
