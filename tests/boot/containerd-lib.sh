# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC2120 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# containerd, with everything of its own in this directory, in a network of its
# own; its CRI plugin makes pods with bulkhead-runtime.

CRI=$PWD/containerd/sock
CGROUP=/bulkhead-test-$BULKHEAD_TEST_RUN

# in_network FUNCTION: runs it in a network namespace that ends with it.
in_network()
{
	local tool

	need_root
	for tool in containerd ctr curl ip; do
		command -v $tool >/dev/null || skip "no $tool"
	done
	[ -x /usr/lib/cni/bridge ] || skip "no plug-ins of CNI"
	unshare --net --mount --pid --fork --mount-proc true 2>/dev/null ||
		skip "no namespaces"
	unshare -n "$BASH" "$TOP/tests/boot/lib.sh" "${BASH_SOURCE[1]}" "$1"
	exit $?
}

# The runtime of containers whose maker names none: bulkhead or runc.
default_runtime=bulkhead

# Those that it has.
runtimes=(runc bulkhead)

# A root that has containerd 2; "": the host's own, 1.6.
containerd_root=${ENGINE_ROOT-}

containerd_config()
{
	local images=io.containerd.grpc.v1.cri runtime=io.containerd.grpc.v1.cri
	local version=2 sandbox='sandbox_image =' bin_dirs='bin_dir = "/usr/lib/cni"'

	if [ -n "$containerd_root" ]; then
		version=3
		images=io.containerd.cri.v1.images
		runtime=io.containerd.cri.v1.runtime
		bin_dirs='bin_dirs = ["/usr/lib/cni"]'
		sandbox='pinned_images.sandbox ='
	fi
	cat <<-END
		version = $version
		root = "$PWD/containerd/data"
		state = "$PWD/containerd/run"
		[grpc]
		address = "$CRI"
		[plugins."io.containerd.internal.v1.opt"]
		path = "$PWD/containerd/opt"
		[plugins."$images"]
		$sandbox "docker.io/library/test:1"
	END
	[ "$images" = "$runtime" ] || echo "[plugins.\"$runtime\"]"
	cat <<-END
		restrict_oom_score_adj = true
		[plugins."$runtime".cni]
		$bin_dirs
		conf_dir = "$PWD/containerd/cni"
		[plugins."$runtime".containerd]
		default_runtime_name = "$default_runtime"
		[plugins."$runtime".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
	END
	[[ " ${runtimes[*]} " == *' bulkhead '* ]] || return 0
	cat <<-END
		[plugins."$runtime".containerd.runtimes.bulkhead]
		runtime_type = "io.containerd.runc.v2"
		[plugins."$runtime".containerd.runtimes.bulkhead.options]
		BinaryName = "$BULKHEAD-runtime"
	END
}

pods_subnet=10.88.7.0/24
cni_config()
{
	cat <<-END
		{"cniVersion": "0.4.0", "name": "pods", "plugins": [{
			"type": "bridge", "bridge": "pods0", "isGateway": true,
			"ipam": {"type": "host-local", "dataDir": "$PWD/containerd/ipam",
				"ranges": [[{"subnet": "$pods_subnet"}]],
				"routes": [{"dst": "0.0.0.0/0"}]}}]}
	END
}

# The command that starts it, in a network namespace for example.
containerd_enter=()

# run_containerd [PROGRAM...]: in namespaces that end with it, with a PROGRAM
# beside it, if one is given
run_containerd()
{
	if [ -n "$containerd_root" ]; then
		[ $# -eq 0 ] || skip "a program beside the host's containerd alone"
		cp containerd/config.toml containerd/containerd.toml
		exec unshare --mount --pid --fork --kill-child --mount-proc \
			"$TOP/tests/engine-start" "$PWD/containerd" "$containerd_root" \
			"$PWD" "$TOP" "${BULKHEAD%/*}" "${BULKHEAD_KERNEL%/*}" \
			/usr/lib/cni --
	fi
	exec "${containerd_enter[@]}" unshare --mount --pid --fork --kill-child --mount-proc sh -c '
		mount -t tmpfs tmpfs /run && mount --bind "$1/var" /var/log &&
			mount --bind "$1/lib" /var/lib || exit
		dir=$1
		shift
		containerd --config "$dir/config.toml" &
		[ $# -eq 0 ] || {
			until [ -e "$dir/ready" ]; do sleep 0.2; done
			"$@" >"$dir/program.log" 2>&1 &
		}
		wait' \
		sh "$PWD/containerd" "$@"
}

# begin_containerd [PROGRAM...]: as run_containerd, in the background; sets
# `containerd` to its process
begin_containerd()
{
	mkdir -p containerd/cni containerd/var containerd/lib
	containerd_config >containerd/config.toml
	cni_config >containerd/cni/pods.conflist
	run_containerd "$@" >containerd.log 2>&1 </dev/null &
	containerd=$!
}

# make_box: the archive of its image, test:1
make_box()
{
	make_root
	[ -z "${more_root-}" ] || "$more_root"
	image_config='"Entrypoint":["/bin/sh","-c","trap exit TERM INT; sleep 9999999 & wait"]'
	make_archive box.tar
	box=$PWD/box.tar
}

# fill_containerd: waits until it is there, gives it the image
fill_containerd()
{
	local end=$((SECONDS + LIMIT))

	until ctr -a "$CRI" -n k8s.io images import "$box" >out 2>err; do
		if [ ! -d "/proc/$containerd" ] || [ "$SECONDS" -ge "$end" ]; then
			fail "containerd does not start: $(tail -n 5 containerd.log)"
		fi
		sleep 0.2
	done
	touch containerd/ready
}

# start_containerd [PROGRAM...]: as run_containerd; its image is test:1
start_containerd()
{
	ip link set lo up
	make_box
	begin_containerd "$@"
	trap stop_containerd EXIT
	fill_containerd
}

# sweep_groups: its control groups, which no namespace takes along
sweep_groups()
{
	for _ in $(seq 300); do
		find /sys/fs/cgroup -depth -type d -path "*$CGROUP*" -exec rmdir {} \; 2>/dev/null
		[ -n "$(find /sys/fs/cgroup -type d -path "*$CGROUP*" 2>/dev/null)" ] || break
		sleep 0.1
	done
}

stop_containerd()
{
	[ -n "${containerd-}" ] || return
	kill -KILL "$containerd" 2>/dev/null
	wait "$containerd" 2>/dev/null
	sweep_groups
	containerd=''
}

# ---- Kubernetes' interface of a container runtime

# text WORD: as Perl has it
text()
{
	local word=${1//\\/\\\\}

	printf "'%s'" "${word//\'/\\\'}"
}

# cri METHOD MESSAGE: its answer in out; status, err
cri()
{
	command="cri $*"
	status=0
	perl "$TOP/tests/boot/cri.pl" "$CRI" "$@" >out 2>err || status=$?
}

cri_do()
{
	cri "$@"
	expect_status 0
}

# value FIELD: of the answer
value()
{
	sed -n "s/^$1 //p" out | head -n 1
}
