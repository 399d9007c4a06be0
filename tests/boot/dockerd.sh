# shellcheck shell=bash disable=SC2154,SC2016,SC2120 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker's own daemon, with everything of its own in this directory.

export DOCKER_HOST=unix://$PWD/docker.sock DOCKER_CONFIG=$PWD/docker-config

# Its own dockerd would give containerd 15 s to start, which a busy machine takes.
containerd_config()
{
	cat <<-END
		version = 2
		root = "$PWD/docker/containerd"
		state = "$PWD/docker/run/containerd"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$PWD/docker/containerd.sock"
	END
}

# until_there COMMAND...: or skip with the last line of its log
until_there()
{
	local end=$((SECONDS + LIMIT))

	until "$@" >/dev/null 2>&1; do
		if [ ! -d "/proc/$dockerd" ] || [ "$SECONDS" -ge "$end" ]; then
			skip "dockerd does not start: $(tail -n 1 dockerd.log)"
		fi
		sleep 0.1
	done
}

# Options about networks: none of the host's is touched.
docker_network=(--bridge none --iptables=false --ip6tables=false
	--ip-forward=false --ip-masq=false)

# start_dockerd [OPTION]...: in namespaces that end with it, and so do its
# processes and mounts.
start_dockerd()
{
	local cgroup=/bulkhead-test-$BULKHEAD_TEST_RUN

	mkdir -p docker/run docker/data docker/etc docker/work
	containerd_config >docker/containerd.toml
	unshare --mount --pid --fork --kill-child --mount-proc sh -c '
		mount -t tmpfs tmpfs /run &&
		mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" /etc &&
		dir=$1 host=$2 cgroup=$3 && shift 3 || exit
		containerd --config "$dir/containerd.toml" &
		until [ -S "$dir/containerd.sock" ]; do
			kill -0 $! || exit
			sleep 0.2
		done
		while :; do
			rm -f "$dir/again"
			dockerd --data-root "$dir/data" --exec-root "$dir/run" \
				--pidfile "$dir/pid" --host "$host" \
				--containerd "$dir/containerd.sock" \
				--cgroup-parent "$cgroup" "$@"
			[ -e "$dir/again" ] || exit
		done' \
		sh "$PWD/docker" "$DOCKER_HOST" "$cgroup" \
		"${docker_network[@]}" "$@" \
		>dockerd.log 2>&1 </dev/null &
	dockerd=$!
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

stop_dockerd()
{
	end_all
	[ -n "${dockerd-}" ] || return
	kill -KILL "$dockerd" 2>/dev/null
	wait "$dockerd" 2>/dev/null
	for _ in $(seq 300); do
		docker_cgroups | xargs -r rmdir 2>/dev/null && break
		sleep 0.1
	done
	dockerd=''
}

