# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker Swarm: docs/examples/swarm on one node, as docs/ENGINES has it, and on
# three, each a daemon in a network namespace of its own, one of which is lost.

. "$TOP/tests/boot/docker-net-lib.sh"

# SWARM_RUNTIME=runc shows what the tests themselves do, without a KVM: the first
# process of a task's is then docker-init.
SWARM_RUNTIME=${SWARM_RUNTIME-bulkhead}
engine_options=(--default-runtime "$SWARM_RUNTIME")
task_process=docker-init
if [ "$SWARM_RUNTIME" = bulkhead ]; then
	engine_options+=(--add-runtime "bulkhead=$BULKHEAD-runtime")
	task_process=bulkhead-vm
fi
# Each check of a task's health is an exec, which takes a second or two there.
! in_lab || export INTERVAL=30s
pause=1
! in_lab || pause=5

# await COMMAND...: as wait_until; to ask the daemon takes the lab a second or two,
# and to look at a file half a second, of CPU time that the tasks are to have
await()
{
	PAUSE=$pause wait_until "$@"
}

needs_host_to_itself()
{
	in_lab || [ "$SWARM_RUNTIME" = runc ] || skip "in the lab only"
}

# did WHAT: how far the test has come, how busy the machine is
did()
{
	echo "$SECONDS s, $(monitors | wc -l) tasks, load $(cut -d ' ' -f 1-3 /proc/loadavg): $*"
}

# ---- what serves

# monitors [TEXT]: of this test's machines, where TEXT is in the control group
monitors()
{
	local pid

	for pid in $(pgrep -x "$task_process"); do
		! grep -qs "bulkhead-test-$BULKHEAD_TEST_RUN.*${1-}" \
			"/proc/$pid/cgroup" || echo "$pid"
	done
}

# count_monitors NUMBER
count_monitors()
{
	[ "$(monitors | wc -l)" = "$1" ]
}

# running NUMBER: as many tasks of the web service run, in as many machines, and
# the proxy in one of its own
running()
{
	[ "$(docker service ls --filter name=pages_web \
		--format '{{.Replicas}}')" = "$1/$1" ] &&
		count_monitors "$(($1 + 1))"
}

# expect_running NUMBER
expect_running()
{
	await running "$1" ||
		fail "not $1 tasks: $(docker service ps --no-trunc pages_web)"
}

# ---- who asks

# Requests until the file `enough` is there, one after the other; in the lab with
# two seconds between them, where each costs what its tasks need. The proxy tries for
# less time than the client does.
load()
{
	until [ -e enough ]; do
		[ -z "$BULKHEAD_LAB" ] || sleep 2
		curl -s -f -m "$LIMIT" http://127.0.0.1:8080/cgi-bin/any \
			>>answers 2>&1 || echo "failed: status $?" >>answers
	done
}

is_served()
{
	"${engine_enter[@]}" curl -s -f -m "$LIMIT" -o page \
		http://127.0.0.1:8080/cgi-bin/any
}

start_load()
{
	: >answers
	heard_from=1
	"${engine_enter[@]}" "$BASH" -c "$(declare -f load)
		LIMIT=$LIMIT BULKHEAD_LAB=${BULKHEAD_LAB-}; load" &
	loader=$!
}

# end_load: all have been answered, more than NUMBER
end_load()
{
	touch enough
	wait "$loader"
	! grep -v '^version [12] of [0-9a-f]*$' answers >out ||
		fail "$(wc -l <out) of $(wc -l <answers) requests failed"
	[ "$(wc -l <answers)" -gt "$1" ] || fail "few requests: $(cat answers)"
	echo "requests: $(wc -l <answers), none failed"
}

# forget_heard: answers count from here on. One may be on its way, of a task that
# is no more.
forget_heard()
{
	heard_from=$(($(wc -l <answers) + 2))
}

# heard PATTERN NUMBER: as many different tasks have answered since, or more
heard()
{
	[ "$(tail -n "+$heard_from" answers | grep "$1" | sort -u | wc -l)" -ge "$2" ]
}

only_new()
{
	! tail -n 10 answers | grep -q '^version 1'
}

expect_heard()
{
	await heard "$@" ||
		fail "not $2 tasks: $(tail -n "+$heard_from" answers)"
}

# keep_nodes TIME: a node counts as lost when it was silent for three times that;
# a busy one is silent for longer than the 15 s that it has by itself
keep_nodes()
{
	d swarm update --dispatcher-heartbeat "$1"
}

# ---- one node

web_container()
{
	docker ps -q --no-trunc --filter label=com.docker.swarm.service.name=pages_web |
		head -n 1
}

has_failed()
{
	docker service ps --format '{{.CurrentState}}' pages_web | grep -q ^Failed
}

# after COMMAND: sees what this line of the documentation has brought about
after()
{
	case $1 in
	*init) keep_nodes 1m ;;
	curl*)
		expect_running 3
		start_load
		expect_heard '^version 1' 3
		;;
	*=5)
		expect_running 5
		forget_heard
		expect_heard '^version 1' 5
		;;
	*=3)
		expect_running 3
		kill -KILL "$(monitors "$(web_container)")" ||
			fail "no machine of a task's"
		await has_failed || fail "nobody heard of the kill"
		expect_running 3
		;;
	*VERSION=2*)
		expect_heard '^version 2' 3
		await only_new || fail "old tasks answer"
		end_load 30
		;;
	*rm*) await count_monitors 0 || fail "a machine stays" ;;
	esac
}

# tell_ends: what tasks that have ended said of it
tell_ends()
{
	local id

	docker service ps --no-trunc pages_web pages_proxy
	for id in $(docker ps -aq -f status=exited); do
		docker logs "$id" 2>&1 | tail -n 5
	done
}

one_node()
{
	local line loader place=.

	make_outside
	start_dockerd "${engine_options[@]}"
	trap 'tell_ends; touch enough; stop_dockerd; kill "$names"' EXIT
	make_box
	d tag box:1 busybox:1.36
	ln -s "$TOP/docs" docs
	documented Swarm >commands
	[ "$(wc -l <commands)" -ge 8 ] || fail "commands: $(cat commands)"
	while read -r line; do
		if [[ $line == 'cd '* ]]; then
			place=${line#cd }
			continue
		fi
		run_documented "$line"
		after "$line"
		echo "$SECONDS s: $line"
	done <commands
	! ip -o link | grep -E 'bhtap' >out || fail "an interface stays"
	trap 'kill "$names"' EXIT
	stop_dockerd
	expect_nothing_left
}

test_one_node()
{
	needs_host_to_itself
	command -v curl >/dev/null || skip "no curl"
	in_network one_node
}

# ---- three nodes

# make_node NUMBER: starts node NUMBER, its address 10.8.0.NUMBER
make_node()
{
	unshare --net --uts sh -c "hostname node$1 && exec sleep infinity" &
	spaces[$1]=$!
	wait_until grep -q ^sleep "/proc/$!/comm" || fail "no namespaces"
	enter_node "$1"
	{
		ip link add "to$1" type veth peer name eth0 netns "$!" &&
			ip link set "to$1" master nodes up &&
			"${engine_enter[@]}" ip link set lo up &&
			"${engine_enter[@]}" ip link set eth0 up &&
			"${engine_enter[@]}" ip address add "10.8.0.$1/24" dev eth0 &&
			"${engine_enter[@]}" ip route add default via 10.8.0.254
	} 2>ip.out || skip "no network can be made: $(tail -n 1 ip.out)"
	# It asks for an image before it takes the one that it has, and waits
	# for 20 s where packets get no answer.
	mkdir -p "node$1/etc"
	echo nameserver 127.0.0.1 >"node$1/etc/resolv.conf"
	start_engine "node$1" "$PWD/node$1.sock" "${engine_options[@]}"
	nodes[$1]=$engine
}

# fill_node NUMBER: waits for its daemon, gives it the image
fill_node()
{
	use_node "$1"
	until_node_there "$1"
	tar -C root -c . | docker import - busybox:1.36 >out 2>err ||
		fail "import: $(cat err)"
}

enter_node()
{
	local ns=/proc/${spaces[$1]}/ns

	engine_enter=(nsenter "--net=$ns/net" "--uts=$ns/uts")
}

use_node()
{
	export DOCKER_HOST=unix://$PWD/node$1.sock
	enter_node "$1"
}

until_node_there()
{
	local end=$((SECONDS + LIMIT))

	until [ -S "node$1.sock" ] && docker version >/dev/null 2>&1; do
		if [ ! -d "/proc/${nodes[$1]}" ] || [ "$SECONDS" -ge "$end" ]; then
			fail "node $1 does not start: $(tail -n 1 "node$1.log")"
		fi
		sleep 0.2
	done
}

end_nodes()
{
	local pid

	end_all
	touch enough
	for pid in "${nodes[@]}" "${spaces[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	wait
	sweep_cgroups
}

# spread NUMBER: the tasks are on as many nodes
spread()
{
	[ "$(docker service ps -f desired-state=running --format '{{.Node}}' \
		pages_web | sort -u | wc -l)" = "$1" ]
}

is_down()
{
	docker node ls --format '{{.Status}}' | grep -q Down
}

three_nodes()
{
	local i loader token
	declare -A nodes=() spaces=()

	make_root
	{
		ip link set lo up && ip link add nodes type bridge &&
			ip address add 10.8.0.254/24 dev nodes &&
			ip link set nodes up
	} 2>ip.out || skip "no bridge can be made: $(tail -n 1 ip.out)"
	trap end_nodes EXIT
	for i in 1 2 3; do
		make_node "$i"
	done
	for i in 1 2 3; do
		fill_node "$i"
	done
	did "three daemons"
	use_node 1
	d swarm init --advertise-addr 10.8.0.1
	keep_nodes 20s
	d swarm join-token -q worker
	token=$(cat out)
	for i in 2 3; do
		use_node "$i"
		d swarm join --token "$token" 10.8.0.1:2377
	done
	use_node 1
	did "a swarm"
	d stack deploy -c "$TOP/docs/examples/swarm/stack.yml" \
		--resolve-image never pages
	expect_running 3
	did "three tasks run"
	await spread 3 || fail "$(docker service ps pages_web)"
	await is_served || fail "the proxy does not answer"
	did "the proxy answers"
	start_load
	expect_heard '^version 1' 3
	did "all three tasks answer"
	kill -KILL "${nodes[3]}" "${spaces[3]}"
	await is_down || fail "$(docker node ls)"
	did "the lost node is known to be down"
	expect_running 3
	await spread 2 || fail "$(docker service ps pages_web)"
	did "three tasks run on two nodes"
	forget_heard
	expect_heard '^version 1' 3
	did "all three tasks answer"
	d service update --detach --env-add VERSION=2 pages_web
	for i in 1 2; do
		expect_heard '^version 2' "$i"
		did "$i updated"
	done
	did "update"
	expect_heard '^version 2' 3
	await only_new || fail "old tasks answer"
	end_load 30
	did "updated"
	d stack rm pages
	await count_monitors 0 || fail "a machine stays"
	did "nothing runs"
	end_nodes
	did "the nodes have ended"
	expect_nothing_left
}

# Three daemons share the lab's emulated CPUs with the machines of their tasks.
limit_three_nodes=3600

test_three_nodes()
{
	needs_host_to_itself
	command -v curl >/dev/null || skip "no curl"
	in_network three_nodes
}
