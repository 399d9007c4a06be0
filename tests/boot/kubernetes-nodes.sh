# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Kubernetes on three nodes, as docs/KUBERNETES has it: a control plane with a
# scheduler, and three kubelets, each with a containerd in a network namespace and
# a root of its own. Two nodes have the runtime and are labelled so.

. "$TOP/tests/boot/kubernetes-lib.sh"

SERVER=10.88.8.254
controllers='--controllers deployment,replicaset,endpoint,nodelifecycle'
# Kubelets on emulated CPUs are silent for longer than the usual 40 s.
controllers+=' --node-monitor-grace-period 60s'
default_runtime=runc
kubelet_address=0.0.0.0
kubelet_groups=true
top=$PWD

# did WHAT: how far the test has come, how busy the machine is
did()
{
	echo "$SECONDS s, load $(cut -d ' ' -f 1-3 /proc/loadavg): $*"
}

# ---- the nodes

# scheduler: the rest of the script that starts a control plane
scheduler()
{
	cat <<-END
		"$kube_scheduler" --kubeconfig "$PWD/kubeconfig" --leader-elect=false \\
			--port 0 >"$PWD/scheduler.log" 2>&1 &
		touch "$PWD/ready"
		wait
	END
}

start_control_plane()
{
	make_control_plane
	scheduler >>control-plane
	unshare --mount --pid --fork --kill-child --mount-proc ./control-plane \
		>control-plane.log 2>&1 </dev/null &
	plane=$!
}

await_control_plane()
{
	local end=$((SECONDS + LIMIT))

	until [ -e ready ]; do
		if [ ! -d "/proc/$plane" ] || [ "$SECONDS" -ge "$end" ]; then
			fail "no control plane: $(tail -n 3 control-plane.log etcd.log apiserver.log)"
		fi
		sleep 0.5
	done
}

make_bridge()
{
	local i

	{
		ip link set lo up && ip link add nodes type bridge &&
			ip address add $SERVER/24 dev nodes &&
			ip link set nodes up
	} 2>ip.out || skip "no bridge can be made: $(tail -n 1 ip.out)"
	for i in 1 2 3; do
		ip route add "10.88.1$i.0/24" via "10.88.8.$i"
	done
}

# use_node NUMBER: what is started from here on is its own
use_node()
{
	mkdir -p "$top/n$1"
	cd "$top/n$1" || fail "no directory for node $1"
	CRI=$PWD/containerd/sock
	pods_subnet=10.88.1$1.0/24
	kubelet_group=$CGROUP/n$1
	containerd_enter=(nsenter "--net=/proc/${spaces[$1]}/ns/net"
		"--uts=/proc/${spaces[$1]}/ns/uts")
	containerd=${nodes[$1]-}
	runtimes=(runc bulkhead)
	[ "$1" != 3 ] || runtimes=(runc)
}

# make_network NUMBER: a node's namespaces, its address 10.88.8.NUMBER, its ways
# to the pods of the others
make_network()
{
	local i

	unshare --net --uts sh -c "hostname n$1 && exec sleep infinity" &
	spaces[$1]=$!
	wait_until grep -q ^sleep "/proc/$!/comm" || fail "no namespaces"
	ip link add "to$1" type veth peer name eth0 netns "${spaces[$1]}"
	ip link set "to$1" master nodes up
	use_node "$1"
	{
		echo 'link set lo up'
		echo 'link set eth0 up'
		echo "address add 10.88.8.$1/24 dev eth0"
		for i in 1 2 3; do
			[ "$i" = "$1" ] || echo "route add 10.88.1$i.0/24 via 10.88.8.$i"
		done
	} | "${containerd_enter[@]}" ip -batch - || fail "no network of node $1"
	"${containerd_enter[@]}" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
	cd "$top" || exit
}

start_node()
{
	use_node "$1"
	mkdir -p kubelet/pods kubelet/root
	kubelet_config >kubelet/config
	begin_containerd "$kubelet" --config "$PWD/kubelet/config" \
		--root-dir "$PWD/kubelet/root" --cert-dir "$PWD/kubelet/certificates" \
		--container-runtime remote --container-runtime-endpoint "unix://$CRI" \
		--runtime-request-timeout 10m --kubeconfig "$top/kubeconfig" \
		--hostname-override "n$1" --node-ip "10.88.8.$1" --v=2
	nodes[$1]=$containerd
	cd "$top" || exit
}

# fill_node NUMBER: gives it the image, which starts its kubelet
fill_node()
{
	use_node "$1"
	fill_containerd
	ctr -a "$CRI" -n k8s.io images tag docker.io/library/test:1 \
		docker.io/library/busybox:1.36 >out 2>err || fail "tag: $(cat err)"
	mv out err "$top"
	cd "$top" || exit
}

are_ready()
{
	kube get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
	[ "$(cat out)" = "$(printf 'n1 True\nn2 True\nn3 True')" ]
}

end_nodes()
{
	local pid

	cd "$top" || exit
	end_all
	for pid in "${nodes[@]}" "${spaces[@]}" ${plane-}; do
		kill -KILL "$pid" 2>/dev/null
	done
	wait 2>/dev/null
	sweep_groups
}

start_nodes()
{
	local i

	make_bridge
	trap end_nodes EXIT
	make_box
	start_control_plane
	allow_groups "/sys/fs/cgroup$CGROUP"
	for i in 1 2 3; do
		mkdir -p "/sys/fs/cgroup$CGROUP/n$i"
		make_network "$i"
	done
	await_control_plane
	did "a control plane"
	for i in 1 2 3; do
		start_node "$i"
	done
	for i in 1 2 3; do
		fill_node "$i"
	done
	PAUSE=5 wait_until are_ready || fail "$(cat out err n?/containerd/program.log)"
	did "three nodes"
}

# ---- what runs on them

# pods [OPTION]...: in the file pods a line for each of these that is to stay:
# its name, node, address, whether it is ready
pods()
{
	kube_do get pods "$@" -o 'jsonpath={range .items[*]}{.metadata.deletionTimestamp}|{.metadata.name} {.spec.nodeName} {.status.podIP} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
	sed -n 's/^|//p' out >pods
}

# are_there NUMBER NODES: so many pages, all ready, on just these nodes
are_there()
{
	pods -l app=pages
	[ "$(grep -c ' True$' pods)" = "$1" ] && [ "$(wc -l <pods)" = "$1" ] &&
		[ "$(cut -d ' ' -f 2 pods | sort -u | xargs)" = "$2" ]
}

# endpoints: the addresses of the service's; in out
endpoints()
{
	kube_do get endpoints pages -o 'jsonpath={range .subsets[*].addresses[*]}{.ip}{"\n"}{end}'
}

# are_endpoints: the service has the pods that are in the file pods, and no other
are_endpoints()
{
	endpoints
	[ "$(sort out)" = "$(cut -d ' ' -f 3 pods | sort)" ]
}

# expect_pages: each pod in the file pods answers with its name and node
expect_pages()
{
	local name node address rest

	while read -r name node address rest; do
		command="curl http://$address/"
		[ "$(curl -s -f -m "$LIMIT" "http://$address/")" = "$name on $node" ] ||
			fail "no page of $name"
	done <pods
}

# pod_on NODE: sets name and address to those of one of the pages
pod_on()
{
	read -r name _ address _ < <(grep " $1 " pods)
}

# expect_reached FROM NODE: the pod FROM gets the page of one on NODE
expect_reached()
{
	pod_on "$2"
	kube_says "$name on $2" exec "$1" -- wget -q -O - "http://$address/"
}

see_machines()
{
	local one two

	pod_on n1
	one=$name
	pod_on n2
	two=$name
	kube_do exec "$one" -- uname -r
	[ "$(cat out)" != "$(uname -r)" ] || fail "its kernel is the host's"
	expect_reached "$one" n2
	expect_reached "$two" n1
}

see_plain()
{
	kube_do wait --for=condition=Ready --timeout="${LIMIT}s" pod/plain
	kube_says "$(uname -r)" exec plain -- uname -r
	expect_reached plain n1
	expect_reached plain n2
	kube_do get pod plain -o 'jsonpath={.status.podIP}'
	pod_on n1
	kube_do exec "$name" -- wget -q -O - "http://$(cat out)/passwd"
	expect_out root
}

# A pod of the class that is meant for the node without the label, once by way of
# the scheduler, once past it.
ELSEWHERE='
apiVersion: v1
kind: Pod
metadata: {name: elsewhere}
spec:
  runtimeClassName: bulkhead
  nodeSelector: {kubernetes.io/hostname: n3}
  containers: [{name: box, image: "busybox:1.36"}]
---
apiVersion: v1
kind: Pod
metadata: {name: past}
spec:
  runtimeClassName: bulkhead
  nodeName: n3
  containers: [{name: box, image: "busybox:1.36"}]
'

is_rejected()
{
	kube_do get pod past -o 'jsonpath={.status.phase} {.status.reason}'
	[ "$(cat out)" = "Failed NodeAffinity" ]
}

see_elsewhere()
{
	echo "$ELSEWHERE" >elsewhere
	kube_do apply -f elsewhere
	PAUSE=3 wait_until has_event elsewhere "3 node(s) didn't match" ||
		fail "no event: $(cat out)"
	PAUSE=3 wait_until is_rejected || fail "it is $(cat out)"
	kube_do delete -f elsewhere
}

# ---- as the documentation has it

# documented: the commands in its section on three nodes, one a line
documented()
{
	awk '/^--+$/ { on = last == "Three nodes" }
		on { print last }
		{ last = $0 }' "$TOP/docs/KUBERNETES" >section
	"$TOP/tests/doc-commands" section | grep '^kubectl '
}

# after COMMAND: sees what this line of the documentation has brought about
after()
{
	case $1 in
	*'rollout status'*)
		are_there 3 'n1 n2' || fail "pods: $(cat pods)"
		PAUSE=3 wait_until are_endpoints || fail "endpoints: $(cat out)"
		expect_pages
		see_machines
		;;
	*'run plain'*)
		see_plain
		see_elsewhere
		kube_do delete pod plain --grace-period=1
		;;
	*'delete -f'*)
		PAUSE=3 wait_until no_kube_pods || fail "they stay: $(cat out)"
		;;
	esac
}

three()
{
	local line plane words
	declare -A nodes=() spaces=()

	command -v openssl >/dev/null || skip "no openssl"
	need_control_plane kubelet kube-scheduler
	start_nodes
	ln -s "$TOP/docs" docs
	documented >commands
	[ "$(wc -l <commands)" -ge 6 ] || fail "commands: $(cat commands)"
	while read -r line; do
		read -ra words <<<"${line#kubectl }"
		kube_do "${words[@]}"
		did "$line"
		after "$line"
	done <commands
	end_nodes
	expect_nothing_left
}

# Three kubelets and a control plane share the lab's emulated CPUs with machines.
limit_three=3600

test_three()
{
	in_lab || skip "in the lab only"
	in_network three
}
