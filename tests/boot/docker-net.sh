# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Networks of Docker's for containers in machines of their own: bridges, ports,
# names, what is refused, and docker-compose.

. "$TOP/tests/boot/docker-net-lib.sh"

# machine ARGUMENT...: docker run in a machine
machine()
{
	d run --runtime bulkhead -m 128m "$@"
}

serves()
{
	[ "$(busybox sh root/bin/get "$@" 2>/dev/null)" = page ]
}

bridge()
{
	local ip

	machine -d --name web -p 8080:80 -p 9053:9053/udp box:1 web
	ip=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' web)
	wait_until serves "$ip" || fail "no page from $ip"
	serves 172.17.0.1 8080 || fail "no page by the published port"
	serves 127.0.0.1 8080 || fail "no page by the loopback"
	"$GUEST/guest" ask:172.17.0.1:9053:100 >out 2>&1 || fail "no datagram"
	machine --rm box:1 sh -ec "get $ip; get 172.17.0.1 8080
		guest ask:172.17.0.1:9053:100 ask:$ip:9053:1200; echo asked"
	[ "$(grep -c '^page$' out)" = 2 ] || fail "not two pages"
	d rm -f web
}

named()
{
	d network create --ipv6 --subnet fd77::/64 --subnet 172.30.0.0/16 \
		--opt com.docker.network.driver.mtu=1400 n1
	machine -d --name srv --network n1 --network-alias other \
		--ip 172.30.0.50 --ip6 fd77::50 box:1 web
	wait_until serves 172.30.0.50 || fail "no page from its own address"
	machine --rm --network n1 --add-host fixed:10.1.2.3 box:1 sh -ec '
		ip link show eth0; get srv; get other
		ping -6 -c 1 srv; ping -c 1 172.30.0.50
		nslookup outside.test; nslookup -type=a srv; cat /etc/hosts'
	[ "$(grep -c '^page$' out)" = 2 ] || fail "not two pages"
	for text in 'mtu 1400' 10.7.7.7 'fd77::50' 172.30.0.50 10.1.2.3; do
		expect_out "$text"
	done
	! sed -n 's/^asked from //p' names.log | awk '$1 < 64512' | grep . ||
		fail "not the ports of a joined namespace"
	machine --rm --network n1 --dns 10.9.9.9 --dns-search a.test box:1 \
		sh -ec 'cat /etc/resolv.conf; nslookup x.test'
	expect_out 'search a.test'
	expect_out 10.7.7.7
}

# has_address NAME TEXT: among the addresses of a running container's guest
has_address()
{
	docker exec "$1" ip address >out 2>err && has_text out "$2"
}

lacks_address()
{
	docker exec "$1" ip address >out 2>err && ! has_text out "$2"
}

# finds NAME HOST ADDRESS: a container's guest finds that one
finds()
{
	docker exec "$1" nslookup -type=a "$2" >out 2>err && has_text out "$3"
}

# A network comes and another one goes, while the guest runs and by a restart.
changed()
{
	d network create --subnet 172.31.0.0/16 n2
	d network connect --ip 172.31.0.50 n2 srv
	wait_until has_address srv 172.31.0.50/16 || fail "no new network"
	expect_out 172.30.0.50
	wait_until serves 172.31.0.50 || fail "no page by the new network"
	serves 172.30.0.50 || fail "no page by the old network"
	machine --rm --network n2 box:1 get srv
	expect_out page
	d network disconnect n1 srv
	wait_until lacks_address srv 172.30.0.50 || fail "the old network"
	serves 172.31.0.50 || fail "no page without the old network"
	machine -d --name alone box:1 sleep 1000
	d network connect n2 alone
	wait_until has_address alone 172.31.0. || fail "not beside the bridge"
	# It had no network with names before.
	wait_until finds alone srv 172.31.0.50 || fail "no name of the network"
	d exec alone cat /etc/resolv.conf
	expect_out 127.0.0.11
	wait_until finds alone outside.test 10.7.7.7 || fail "no name outside"
	d rm -f alone
	d restart -t 1 srv
	wait_until has_address srv 172.31.0.50/16 || fail "no network again"
	expect_no_out 172.30.0.50
	wait_until serves 172.31.0.50 || fail "no page after a restart"
}

# refused TEXT ARGUMENT...
refused()
{
	local text=$1

	shift
	command="docker run $*"
	status=0
	timeout -k 5 "$LIMIT" docker run --rm --runtime bulkhead "$@" >out \
		2>err </dev/null || status=$?
	expect_status 125
	grep -qF "$text" err || fail "no '$text'"
}

# machines NAME: the processes of that name around srv's guest; other tests have
# some, too
machines()
{
	local id pid

	id=$(docker inspect -f '{{.Id}}' srv)
	for pid in $(pgrep -x "$1"); do
		! grep -qsF "$id" "/proc/$pid/cgroup" || echo "$pid"
	done
}

no_machine()
{
	[ -z "$(machines bulkhead-vm)" ]
}

is_exited()
{
	[ "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' srv)" = \
		'exited 137' ]
}

killed()
{
	local name

	for name in bulkhead-vm program; do
		kill -KILL "$(machines "$name" | head -n 1)" ||
			fail "no process $name"
		wait_until is_exited || fail "$name: $(docker ps -a)"
		wait_until no_machine || fail "a machine stays"
		d start srv
		wait_until serves 172.31.0.50 || fail "no page after $name"
	done
}

networks()
{
	make_outside
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime" --dns 10.9.9.9
	make_box
	bridge
	named
	refused "host's own network" --network host box:1 true
	machine --rm --network container:srv box:1 ip -o addr
	expect_out 172.30.0.50
	machine --rm --network none box:1 ip link
	expect_no_out eth0
	changed
	killed
	d rm -f srv
	d network rm n1 n2
	! ip -o link | grep -E 'veth|bhtap' >out || fail "an interface stays"
	stop_dockerd
	expect_nothing_left
}

test_networks()
{
	in_network networks
}

# Docker 28 puts interfaces into a namespace between create and start, where
# older ones do it in a hook of create.
newer()
{
	make_outside
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime" --dns 10.9.9.9
	d version -f '{{.Server.Version}}'
	[[ $(cat out) =~ ^$engine_version ]] || fail "another engine: $(cat out)"
	make_box
	bridge
	named
	changed
	d rm -f srv
	d network rm n1 n2
	stop_dockerd
	expect_nothing_left
}

test_networks_late()
{
	need_root
	export ENGINE_ROOT engine_version='(2[89]|[3-9][0-9])\.'

	ENGINE_ROOT=$("$TOP/tests/engine-root" docker 2>&1) || skip "$ENGINE_ROOT"
	in_network newer
}

test_networks_26()
{
	need_root
	export ENGINE_ROOT engine_version='26\.'

	ENGINE_ROOT=$("$TOP/tests/engine-root" docker-26 2>&1) ||
		skip "$ENGINE_ROOT"
	in_network newer
}

# ---- docs/examples/microservices

# visits NUMBER: whether a page says that this is at least the visit NUMBER
visits()
{
	curl -s -m 60 http://127.0.0.1:8080/cgi-bin/visit >page 2>&1
	count=$(sed -n 's/^visit \([0-9][0-9]*\)$/\1/p' page)
	[ "${count:-0}" -ge "$1" ]
}

# service NAME: the container of it
service()
{
	docker ps -q --filter "label=com.docker.compose.service=$1"
}

# The services, as they are to be between `up` and `down`.
microservices_hold()
{
	wait_until visits 1 || fail "no visit after a restart: $(cat page)"
	[ "$count" -ge 2 ] || fail "the volume's data have gone: $count"
	[ "$(docker ps -q | wc -l)" = 3 ] || fail "$(docker ps -a)"
	d exec "$(service web)" nslookup -type=a api
	! docker exec "$(service web)" nc -w 5 db 80 </dev/null >out 2>&1 ||
		fail "the web server reaches the database"
	d exec "$(service api)" uname -v
	[ "$(cat out)" != "$(uname -v)" ] || fail "no machine of its own"
}

microservices()
{
	local line place=.

	ip link set lo up || fail "no loopback"
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime"
	make_box
	d tag box:1 busybox:1.36
	ln -s "$TOP/docs" docs
	# Its client gives the daemon a minute for each thing it asks for.
	export COMPOSE_HTTP_TIMEOUT=$LIMIT
	documented Compose | sed "s/^docker-compose /$compose /" >commands
	[ "$(wc -l <commands)" -ge 5 ] || fail "commands: $(cat commands)"
	while read -r line; do
		case $line in
		'cd '*)
			place=${line#cd }
			continue
			;;
		*' down '*) microservices_hold ;;
		esac
		run_documented "$line"
		# One whose answer came late has been counted, and asked again.
		[[ $line != curl* ]] || expect_out 'visit '
	done <commands
	[ -z "$(docker ps -aq)$(docker volume ls -q)" ] || fail "it stays"
	! ip -o link | grep -E 'veth|bhtap' >out || fail "an interface stays"
	stop_dockerd
	expect_nothing_left
}

test_compose()
{
	command -v docker-compose >/dev/null || skip "no docker-compose"
	command -v curl >/dev/null || skip "no curl"
	export compose=docker-compose
	in_network microservices
}

# Its second version is a plug-in of Docker's client.
test_compose_plugin()
{
	local root plugins=$DOCKER_CONFIG/cli-plugins

	command -v curl >/dev/null || skip "no curl"
	if ! docker compose version >out 2>&1; then
		root=$("$TOP/tests/engine-root" docker 2>&1) || skip "$root"
		mkdir -p "$plugins"
		ln -s "$root/usr/libexec/docker/cli-plugins/docker-compose" "$plugins"
		docker compose version >out 2>&1 || skip "$(tail -n 1 out)"
	fi
	export compose='docker compose'
	in_network microservices
}
