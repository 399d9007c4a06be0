# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Kubernetes' pods in machines: a real kubelet, which takes them from files, on
# a real containerd. tests/oci/kubernetes has to have built it. It sets sysctls
# of the host's (vm.overcommit_memory, kernel.panic and more): in the lab only.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/containerd-lib.sh"

kubelet_address=127.0.0.1
kubelet_groups=false # one for each pod, with the pod's limits
kubelet_config()
{
	cat <<-END
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		staticPodPath: $PWD/kubelet/pods
		fileCheckFrequency: 1s
		syncFrequency: 5s
		authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
		authorization: {mode: AlwaysAllow}
		address: $kubelet_address
		readOnlyPort: 10255
		cgroupDriver: cgroupfs
		cgroupRoot: $CGROUP
		cgroupsPerQOS: $kubelet_groups
		enforceNodeAllocatable: []
		evictionHard: {memory.available: 1Mi}
		failSwapOn: false
		makeIPTablesUtilChains: false
		enableControllerAttachDetach: false
		resolvConf: ""
	END
}

# need_program NAME: sets the variable of that name to its path
need_program()
{
	local cache=${BULKHEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/bulkhead}

	[ -x "$cache/$1-1.20.2" ] || skip "no $1: tests/oci/kubernetes makes it"
	printf -v "${1//-/_}" %s "$cache/$1-1.20.2"
}

# start_kubelet [BEFORE [OPTION]...]: with these options; it starts when the
# command BEFORE has succeeded.
start_kubelet()
{
	local end=$((SECONDS + LIMIT)) before=${1:-true}

	shift
	in_lab || skip "in the lab only"
	need_program kubelet
	command -v openssl >/dev/null || skip "no openssl"
	mkdir -p kubelet/pods kubelet/root
	kubelet_config >kubelet/config
	start_containerd sh -c '"$0" && exec "$@"' "$before" \
		"$kubelet" --config "$PWD/kubelet/config" \
		--root-dir "$PWD/kubelet/root" --cert-dir "$PWD/kubelet/certificates" \
		--container-runtime remote --container-runtime-endpoint "unix://$CRI" \
		--runtime-request-timeout 10m --hostname-override node1 --v=2 "$@"
	until curl -s http://127.0.0.1:10255/pods >pods.json; do
		if [ ! -d "/proc/$containerd" ] || [ "$SECONDS" -ge "$end" ]; then
			fail "the kubelet does not start: $(tail -n 5 containerd/program.log)"
		fi
		sleep 0.5
	done
}

# pod NAME JSON: a pod that is to be. It is whole when the kubelet sees it.
pod()
{
	printf '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "%s",
		"namespace": "default", "labels": {"tier": "front"}}, "spec": %s}' \
		"$1" "$2" >"$1.part"
	mv "$1.part" "kubelet/pods/$1.json"
}

# facts NAME: of its pod: "phase Running", "ip A", and per container "NAME state
# running", "NAME restarts 0", "NAME ready 1", "NAME reason R", "NAME last R"
facts()
{
	curl -s http://127.0.0.1:10255/pods | perl -MJSON::PP -0777 -ne '
		BEGIN { $name = pop }
		my $list = eval { decode_json($_) } or exit;
		for my $pod (grep { $_->{metadata}{name} eq "$name-node1" } @{$list->{items}}) {
			my $s = $pod->{status};
			print "phase $s->{phase}\n", "ip ", $s->{podIP} // "", "\n";
			for my $c (@{$s->{initContainerStatuses}}, @{$s->{containerStatuses}}) {
				my ($state) = keys %{$c->{state}};
				my ($last) = values %{$c->{lastState}};
				my $of = $c->{state}{$state};
				print "$c->{name} state $state\n",
					"$c->{name} restarts $c->{restartCount}\n",
					"$c->{name} ready ", $c->{ready} ? 1 : 0, "\n",
					"$c->{name} reason ", $of->{reason} // "", "\n",
					"$c->{name} status ", $of->{exitCode} // "", "\n",
					"$c->{name} last ", $last->{reason} // "", " ",
					$last->{exitCode} // "", "\n";
			}
		}' "$1" >facts.part
	mv facts.part facts
}

has_facts()
{
	local line

	facts "$1"
	shift
	for line; do
		grep -qxF "$line" facts || return
	done
}

# await NAME LINE...: until its pod has these facts. Perl takes a part of a second
# in the lab: it is not asked all the time.
await()
{
	local end=$((SECONDS + LIMIT))

	command="pod $*"
	until has_facts "$@"; do
		[ "$SECONDS" -lt "$end" ] || fail "it has: $(cat facts)"
		sleep 1
	done
}

# api PATH [OPTION]...: of the kubelet; in out
api()
{
	command="kubelet $*"
	curl -sk "https://127.0.0.1:10250$1" "${@:2}" >out 2>err
}

# stream PATH [TEXT]: exec, attach or portForward; in out
stream()
{
	command="kubelet $*"
	status=0
	timeout -k 5 "$LIMIT" perl "$TOP/tests/boot/websocket.pl" 10250 "$@" >out 2>err || status=$?
}

APP='{
"terminationGracePeriodSeconds": 600,
"initContainers": [{"name": "first", "image": "docker.io/library/test:1", "imagePullPolicy": "Never",
	"command": ["sh", "-c", "echo made >/work/by-init"],
	"volumeMounts": [{"name": "work", "mountPath": "/work"}]}],
"containers": [{"name": "web", "image": "docker.io/library/test:1", "imagePullPolicy": "Never",
	"command": ["sh", "-c", "trap \"echo term >>/host/end; exit 0\" TERM; mkdir /www; echo page >/www/index.html; httpd -h /www; httpd -h /www -p 127.0.0.1:81; cat /work/by-init; cat /info/labels; echo; cat /file; echo ip $IP; echo shared >/mem/f; while :; do sleep 1; done"],
	"env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
	"resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
	"readinessProbe": {"httpGet": {"port": 80, "path": "/index.html"}, "periodSeconds": 5, "timeoutSeconds": 60},
	"livenessProbe": {"exec": {"command": ["test", "!", "-e", "/sick"]}, "periodSeconds": 20, "failureThreshold": 1, "timeoutSeconds": 600},
	"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo before >>/host/end"]}}},
	"volumeMounts": [{"name": "work", "mountPath": "/work"}, {"name": "mem", "mountPath": "/mem"},
		{"name": "host", "mountPath": "/host"}, {"name": "file", "mountPath": "/file", "readOnly": true},
		{"name": "info", "mountPath": "/info"}]},
	{"name": "side", "image": "docker.io/library/test:1", "imagePullPolicy": "Never",
	"command": ["sh", "-c", "trap exit TERM; until [ -s /mem/f ]; do sleep 1; done; cat /mem/f; df -T /mem | tail -n 1; while :; do sleep 1; done"],
	"volumeMounts": [{"name": "mem", "mountPath": "/mem"}]}],
"volumes": [{"name": "work", "emptyDir": {}}, {"name": "mem", "emptyDir": {"medium": "Memory"}},
	{"name": "host", "hostPath": {"path": "'$PWD/host'", "type": "DirectoryOrCreate"}},
	{"name": "file", "hostPath": {"path": "'$PWD/file'", "type": "File"}},
	{"name": "info", "downwardAPI": {"items": [{"path": "labels",
		"fieldRef": {"fieldPath": "metadata.labels"}}]}}]}'

FAILS='{"containers": [{"name": "again", "image": "docker.io/library/test:1", "imagePullPolicy": "Never",
	"command": ["sh", "-c", "if [ -e /work/been ]; then trap exit TERM; while :; do sleep 1; done; fi; touch /work/been; exit 3"],
	"volumeMounts": [{"name": "work", "mountPath": "/work"}]},
	{"name": "keeps", "image": "docker.io/library/test:1", "imagePullPolicy": "Never"}],
	"volumes": [{"name": "work", "emptyDir": {}}]}'

GREEDY='{"restartPolicy": "Never", "containers": [{"name": "eats",
	"image": "docker.io/library/test:1", "imagePullPolicy": "Never",
	"command": ["tail", "/dev/zero"], "resources": {"limits": {"memory": "32Mi"}}}]}'

test_pods()
{
	in_network pods_all
}

no_pods()
{
	facts "$1"
	[ ! -s facts ]
}

pods_run()
{
	echo from-file >file
	pod app "$APP"
	await app 'phase Running' 'first reason Completed' 'web ready 1' 'side ready 1' 'web restarts 0'
}

pods_look()
{
	local text ip=$1

	[ "$(curl -s "http://$ip/index.html")" = page ] || fail "no page at '$ip'"
	api /containerLogs/default/app-node1/web
	for text in made 'tier="front"' from-file "ip $ip"; do
		grep -qxF -- "$text" out || fail "no '$text' in its log: $(cat out)"
	done
	api /containerLogs/default/app-node1/side
	grep -qx shared out || fail "no common file in memory: $(cat out)"
	api /run/default/app-node1/web -d 'cmd=cat /proc/self/cgroup'
	[ -s out ] || fail "run: $(cat err)"
	stream '/exec/default/app-node1/web?command=sh&command=-c&command=echo+out%3Becho+err+%3E%262%3Bexit+4&output=1&error=1'
	for text in '^1 out$' '^2 err$' '^3 .*"4"'; do
		grep -q "$text" out || fail "exec: $(cat out err)"
	done
	stream '/portForward/default/app-node1?port=81' 'GET /index.html HTTP/1.0\r\n\r\n'
	grep -qx '0 page' out || fail "port-forward: $(cat out err)"
}

pods_again()
{
	api /run/default/app-node1/web -d 'cmd=touch /sick'
	await app 'web restarts 1' 'web ready 1' 'side restarts 0'
	[ "$(sed -n 's/^ip //p' facts)" = "$1" ] || fail "another address: $(cat facts)"
}

pods_fail()
{
	pod fails "$FAILS"
	await fails 'again restarts 1' 'again state running' 'again last Error 3' 'keeps restarts 0'
	pod greedy "$GREEDY"
	await greedy 'phase Failed' 'eats reason OOMKilled' 'eats status 137'
}

has_ended()
{
	[ "$(cat host/end 2>/dev/null)" = "$(printf 'before\nterm')" ]
}

pods_end()
{
	rm -f host/end
	rm kubelet/pods/app.json
	wait_until no_pods app || fail "the pod stays: $(cat facts)"
	# The kubelet forgets a pod of a file before it has ended it.
	wait_until has_ended || fail "its end: $(cat host/end)"
}

pods_all()
{
	local ip

	start_kubelet true
	pods_run
	ip=$(sed -n 's/^ip //p' facts)
	pods_look "$ip"
	pods_again "$ip"
	pods_end
	pods_fail
	stop_containerd
	expect_nothing_left
}
