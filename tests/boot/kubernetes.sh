# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090,SC2119,SC2120 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Kubernetes' pods in machines: a real kubelet, which takes them from files, on
# a real containerd, or from an API server. tests/oci/kubernetes has to have built
# them. The kubelet sets sysctls of the host's (vm.overcommit_memory, kernel.panic
# and more): in the lab only.

. "$TOP/tests/boot/kubernetes-lib.sh"

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

# ---- with an API server

start_cluster()
{
	need_control_plane
	ip link add node0 type bridge
	ip address add $SERVER/24 dev node0
	ip link set node0 up
	make_control_plane
	default_runtime=runc
	kubelet_address=0.0.0.0
	kubelet_groups=true
	allow_groups
	mkdir -p "/sys/fs/cgroup$CGROUP"
	start_kubelet "$PWD/control-plane" --kubeconfig "$PWD/kubeconfig" --node-ip $SERVER
}

# The objects that test_api makes.
OBJECTS='
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: bulkhead}
handler: bulkhead
overhead: {podFixed: {memory: 160Mi, cpu: 100m}}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: unknown}
handler: unknown
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: "red", app.conf: "level=1"}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: sesame}
---
apiVersion: v1
kind: Pod
metadata: {name: app, labels: {tier: front}}
spec:
  runtimeClassName: bulkhead
  nodeName: node1
  terminationGracePeriodSeconds: 600
  serviceAccountName: robot
  automountServiceAccountToken: false
  containers:
  - name: web
    image: docker.io/library/test:1
    imagePullPolicy: Never
    command:
    - sh
    - -c
    - |
      trap "sleep 1; echo ended >/host/end; exit 0" TERM
      mkdir /www; echo page >/www/index.html; httpd -h /www -p 80
      echo env $COLOUR $WORD
      echo file $(cat /config/colour) $(cat /secret/word) $(cat /etc/app.conf)
      stat -c "mode %a" /secret/..data/word
      echo all $(ls /all)
      until [ "$(cat /config/colour)" = blue ]; do sleep 1; done
      echo changed $(cat /config/colour) $(cat /config/more)
      while :; do sleep 1; done
    env:
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    readinessProbe: {httpGet: {port: 80, path: /index.html}, periodSeconds: 5, timeoutSeconds: 60}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /etc/app.conf, subPath: app.conf}
    - {name: secret, mountPath: /secret, readOnly: true}
    - {name: all, mountPath: /all}
    - {name: host, mountPath: /host}
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: password, defaultMode: 0400}}
  - name: all
    projected:
      sources:
      - serviceAccountToken: {path: token}
      - configMap: {name: settings}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
  - {name: host, hostPath: {path: "'$PWD/host'", type: DirectoryOrCreate}}
---
apiVersion: v1
kind: Pod
metadata: {name: plain}
spec:
  nodeName: node1
  terminationGracePeriodSeconds: 1
  containers: [{name: plain, image: "docker.io/library/test:1", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec:
  runtimeClassName: unknown
  nodeName: node1
  containers: [{name: plain, image: "docker.io/library/test:1", imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: hostnet}
spec:
  runtimeClassName: bulkhead
  nodeName: node1
  hostNetwork: true
  containers: [{name: plain, image: "docker.io/library/test:1", imagePullPolicy: Never}]
'
DEPLOYMENT='
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 1
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec:
      runtimeClassName: bulkhead
      nodeName: node1
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: docker.io/library/test:1
        imagePullPolicy: Never
        command: [sh, -c, "trap exit TERM; while :; do sleep 1; done"]
        env: [{name: RELEASE, value: one}]
        resources: {limits: {memory: 64Mi}}
'

test_api()
{
	in_network api_all
}

# has_log POD LINE
has_log()
{
	kube_do logs "$1"
	grep -qxF -- "$2" out
}

api_files()
{
	local text

	for text in 'env red sesame' 'file red sesame level=1' 'mode 400' \
		'all app.conf colour labels token'; do
		has_log app "$text" || fail "no '$text' in its log: $(cat out)"
	done
	kube_do patch configmap settings -p '{"data":
		{"colour": "blue", "more": "new", "app.conf": "level=2"}}'
	PAUSE=3 wait_until has_log app 'changed blue new' ||
		fail "the change does not come: $(cat out)"
	# A file alone stays, with every runtime.
	kube_says level=1 exec app -- cat /etc/app.conf
}

api_machine()
{
	local host

	kube_do exec plain -- uname -r
	host=$(cat out)
	kube_do exec app -- uname -r
	[ "$(cat out)" != "$host" ] || fail "its kernel is the host's"
	# As large as the pod's control group allows: limits and overhead.
	kube_says 1 exec app -- nproc
	kube_do exec app -- awk '/MemTotal/ { print $2 }' /proc/meminfo
	[ "$(cat out)" -lt 262144 ] || fail "its memory: $(cat out)"
}

api_exec()
{
	kube exec app -- sh -c 'echo out; echo err >&2; exit 4'
	expect_status 4
	[ "$(cat out; head -n 1 err)" = "$(printf 'out\nerr')" ] ||
		fail "exec: $(cat out err)"
	seq 100000 >numbers
	INPUT=numbers kube exec -i app -- sha256sum
	[ "$(cut -d' ' -f1 out)" = "$(sha256sum <numbers | cut -d' ' -f1)" ] ||
		fail "exec -i: $(cat out)"
	command="kubectl exec -it"
	status=0
	HOME=$PWD script -qec "stty rows 31 cols 91; '$kubectl' --kubeconfig kubeconfig \
		exec -it app -- sh -c 'until stty size | grep ^31; do sleep 1; done; exit 7'" /dev/null \
		>out 2>err </dev/null || status=$?
	expect_status 7
	grep -q '31 91' out || fail "its size: $(cat out)"
	kube_do cp numbers app:/tmp/numbers
	kube_do cp app:/tmp/numbers back
	cmp -s numbers back || fail "cp: another file comes back"
}

forwards()
{
	[ "$(curl -s http://127.0.0.1:18080/index.html)" = page ]
}

api_forward()
{
	local forward

	command="kubectl port-forward"
	HOME=$PWD "$kubectl" --kubeconfig kubeconfig port-forward pod/app 18080:80 \
		>out 2>err </dev/null &
	forward=$!
	wait_until forwards || fail "nothing comes"
	kill $forward
	wait $forward 2>/dev/null
}

api_refused()
{
	PAUSE=3 wait_until has_event unknown 'no runtime for "unknown" is configured' ||
		fail "no event: $(cat out)"
	PAUSE=3 wait_until has_event hostnet "$1" || fail "no event: $(cat out)"
	kube_do delete --wait=false pod unknown hostnet
}

has_release()
{
	kube exec deployment/front -- sh -c 'echo $RELEASE'
	[ "$(cat out)" = "$1" ]
}

api_replace()
{
	echo "$DEPLOYMENT" >deployment
	kube_do apply -f deployment
	kube_do rollout status deployment/front
	kube_do set env deployment/front RELEASE=two
	kube_do rollout status deployment/front
	# It may choose the old one, which is about to end.
	PAUSE=3 wait_until has_release two || fail "an old release: $(cat out err)"
	kube_do scale deployment/front --replicas=0
	PAUSE=3 wait_until no_kube_pods -l app=front || fail "they stay: $(cat out)"
}

api_end()
{
	kube_do delete pod app
	[ "$(cat host/end)" = ended ] || fail "no time of grace"
	kube_do delete pod --all
	PAUSE=3 wait_until no_kube_pods || fail "they stay: $(cat out)"
}

api_all()
{
	start_cluster
	echo "$OBJECTS" >objects
	kube_do apply -f objects
	kube_do wait --for=condition=Ready --timeout="${LIMIT}s" pod/app pod/plain
	api_files
	api_machine
	api_exec
	api_forward
	api_refused "the host's own network is not"
	api_replace
	api_end
	stop_containerd
	expect_nothing_left
}
