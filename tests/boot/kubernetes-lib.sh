# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090,SC2119,SC2120 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Shared by the tests of Kubernetes: what a kubelet and a control plane are
# started with, and kubectl. tests/oci/kubernetes has to have built them.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/containerd-lib.sh"

kubelet_address=127.0.0.1
kubelet_groups=false # one for each pod, with the pod's limits
kubelet_group=$CGROUP # where these are
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
		cgroupRoot: $kubelet_group
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

	[ -x "$cache/$1-1.20.2-2" ] || skip "no $1: tests/oci/kubernetes makes it"
	printf -v "${1//-/_}" %s "$cache/$1-1.20.2-2"
}

# The API server's address, and the controllers' options.
SERVER=10.88.8.1
controllers='--controllers deployment,replicaset'

# control_plane: a script that starts one
control_plane()
{
	cat <<-END
		#!/bin/sh
		"$etcd" --data-dir "$PWD/etcd" --listen-client-urls http://127.0.0.1:2379 \\
			--advertise-client-urls http://127.0.0.1:2379 \\
			--listen-peer-urls http://127.0.0.1:2380 >"$PWD/etcd.log" 2>&1 &
		until curl -s http://127.0.0.1:2379/health | grep -q true; do
			kill -0 \$! || exit
			sleep 0.5
		done
		"$kube_apiserver" --etcd-servers http://127.0.0.1:2379 \\
			--cert-dir "$PWD/certificates" --advertise-address $SERVER \\
			--service-account-issuer https://test --service-account-key-file "$PWD/key" \\
			--service-account-signing-key-file "$PWD/key" \\
			--service-cluster-ip-range 10.88.9.0/24 --token-auth-file "$PWD/tokens" \\
			--authorization-mode AlwaysAllow --disable-admission-plugins ServiceAccount \\
			--kubelet-preferred-address-types InternalIP --profiling=false \\
			>"$PWD/apiserver.log" 2>&1 &
		until "$kubectl" --kubeconfig "$PWD/kubeconfig" get --raw /readyz; do
			kill -0 \$! || exit
			sleep 1
		done
		"$kube_controller_manager" --kubeconfig "$PWD/kubeconfig" --leader-elect=false \\
			$controllers >"$PWD/controllers.log" 2>&1 &
	END
}

client_config()
{
	cat <<-END
		{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": [{"name": "test", "cluster": {"server": "https://$SERVER:6443",
			"insecure-skip-tls-verify": true}}],
		"users": [{"name": "test", "user": {"token": "secret"}}],
		"contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]}
	END
}

# need_control_plane PROGRAM...: these programs, too
need_control_plane()
{
	local program

	for program in etcd kubectl kube-apiserver kube-controller-manager "$@"; do
		need_program "$program"
	done
}

# make_control_plane: the files that it needs, and the script `control-plane`
make_control_plane()
{
	openssl genrsa -out key 2048 2>/dev/null
	echo secret,test,test,system:masters >tokens
	client_config >kubeconfig
	control_plane >control-plane
	chmod +x control-plane
}

# allow_groups DIRECTORY...: makes these control groups with all controllers,
# which the kubelet wants above its own.
allow_groups()
{
	local dir

	for dir in /sys/fs/cgroup "$@"; do
		mkdir -p "$dir"
		sed 's/[^ ]*/+&/g' "$dir/cgroup.controllers" >"$dir/cgroup.subtree_control"
	done
}

# client INPUT ARGUMENT...: kubectl; status, out, err
client()
{
	command="kubectl ${*:2}"
	status=0
	HOME=$PWD timeout -k 5 "$LIMIT" "$kubectl" --kubeconfig "$PWD/kubeconfig" \
		"${@:2}" >out 2>err <"$1" || status=$?
}

# is_answered INPUT ARGUMENT...: not by a server that is too busy for an answer
is_answered()
{
	client "$@"
	! grep -qE '^Error from server \(Timeout\)|etcdserver: |TLS handshake timeout' err
}

# kube ARGUMENT...: kubectl, with the file INPUT; status, out, err
kube()
{
	wait_until is_answered "${INPUT:-/dev/null}" "$@" || fail "no answer"
}

kube_do()
{
	kube "$@"
	expect_status 0
}

# kube_says TEXT ARGUMENT...: it succeeds, and TEXT is all of its output
kube_says()
{
	kube_do "${@:2}"
	[ "$(cat out)" = "$1" ] || fail "not '$1': $(cat out)"
}

# has_event POD TEXT
has_event()
{
	kube_do get events --field-selector "involvedObject.name=$1" \
		-o 'jsonpath={.items[*].message}'
	grep -qF -- "$2" out
}

# no_kube_pods [OPTION]...
no_kube_pods()
{
	kube_do get pods -o name "$@"
	[ ! -s out ]
}
