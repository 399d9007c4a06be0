# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# containerd's containers and pods in machines of their own: a real containerd
# with bulkhead-runtime below its own shim.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/containerd-lib.sh"

# ctr_do STATUS ARGUMENT...: out, err
ctr_do()
{
	local want=$1

	shift
	command="ctr $*"
	status=0
	timeout -k 5 "$LIMIT" ctr -a "$CRI" -n k8s.io "$@" >out 2>err </dev/null || status=$?
	expect_status "$want"
}

ctr_run()
{
	ctr_do "$1" run --fifo-dir "$PWD/fifo" --runtime io.containerd.runc.v2 --runc-binary "$BULKHEAD-runtime" \
		--cgroup "$CGROUP/$RANDOM" "${@:2}"
}

# task NAME: its state
task()
{
	ctr -a "$CRI" -n k8s.io tasks ls 2>/dev/null | awk -v name="$1" '$1 == name { print $3 }'
}

is_task()
{
	[ "$(task "$1")" = "$2" ]
}

test_ctr()
{
	in_network ctr_all
}

ctr_all()
{
	local image=docker.io/library/test:1

	start_containerd
	mkdir vol fifo
	ctr_run 5 --rm --env A=b --mount "type=bind,src=$PWD/vol,dst=/vol,options=rbind:rw" \
		--memory-limit 268435456 "$image" c1 \
		sh -c 'grep -c "Linux version" /proc/version; echo $A; echo x >/vol/x; echo err >&2; exit 5'
	[ "$(cat out)" = "$(printf '1\nb')" ] || fail "output: $(cat out)"
	grep -q '^err$' err || fail "no standard error"
	[ "$(cat vol/x)" = x ] || fail "no file on the volume"
	ctr_run 0 -d "$image" c2 sh -c 'trap "exit 4" TERM; touch /up; while :; do sleep 1; done'
	wait_until ctr -a "$CRI" -n k8s.io tasks exec --fifo-dir "$PWD/fifo" --exec-id up c2 test -e /up
	ctr_do 6 tasks exec --fifo-dir "$PWD/fifo" --exec-id e1 c2 sh -c 'hostname; exit 6'
	ctr_do 0 tasks pause c2
	is_task c2 PAUSED || fail "not paused: $(task c2)"
	ctr_do 0 tasks resume c2
	ctr_do 0 tasks ps c2
	ctr_do 0 tasks metrics c2
	ctr_do 0 tasks kill -s TERM c2
	wait_until is_task c2 STOPPED || fail "it does not end"
	ctr_do 0 tasks delete c2
	grep -q 'non-zero exit code 4' err || fail "status: $(cat err)"
	ctr_do 0 containers delete c2
	ctr_run 0 -d "$image" c3 sh -c 'sleep 1000'
	ctr_do 0 tasks kill -s KILL c3
	wait_until is_task c3 STOPPED || fail "it does not end"
	ctr_do 0 tasks delete c3
	grep -q 'non-zero exit code 137' err || fail "status: $(cat err)"
	ctr_do 0 containers delete c3
	command="ctr run -t"
	status=0
	script -qec "stty rows 31 cols 91; ctr -a '$CRI' -n k8s.io run -t --rm --fifo-dir '$PWD/fifo' \
		--runtime io.containerd.runc.v2 --runc-binary '$BULKHEAD-runtime' \
		--cgroup '$CGROUP/t' $image c4 sh -c 'tty; stty size; exit 7'" /dev/null \
		>out 2>err </dev/null || status=$?
	expect_status 7
	grep -q '^31 91' out || fail "size: $(cat out)"
	stop_containerd
	expect_nothing_left
}

# ---- pods

POD='[1, [1, "pod", 2, "uid-1", 3, "test"], 2, "host1", 3, "'$PWD'/logs",
	8, [1, "'$CGROUP'", 2, [1, [2, \1]], 5, [1, \100000, 2, \50000, 4, \134217728]]]'

# create NAME ATTEMPT [PERL...] -- COMMAND...: a container in the pod; sets id
create()
{
	local name=$1 attempt=$2 more='' limits='' words=''

	shift 2
	while [ "$1" != -- ]; do
		case $1 in
		limits=*) limits="1, [${1#*=}]," ;;
		*) more+="$1, " ;;
		esac
		shift
	done
	shift
	for word; do
		words+="3, $(text "$word"), "
	done
	cri_do CreateContainer "1, '$pod', 2, [1, ['1', '$name', 2, \\$attempt],
		2, [1, 'docker.io/library/test:1'], $words $more 11, '$name.log',
		15, [$limits 2, [3, [2, \\1]]]], 3, $POD"
	id=$(value 1)
	cri_do StartContainer "1, '$id'"
}

# run_to_end STATUS REASON: of the container id
run_to_end()
{
	wait_until has_state 2 || fail "it does not end"
	[ "$(value 1.7 | grep . || echo 0) $(value 1.10)" = "$*" ] || fail "its end: $(cat out)"
}

has_state()
{
	cri_do ContainerStatus "1, '$id'"
	[ "$(value 1.3)" = "$1" ]
}

exec_in()
{
	local want=$1 words=''

	shift
	for word; do
		words+="2, $(text "$word"), "
	done
	cri_do ExecSync "1, '$id', $words"
	[ "$(sed -n 's/^3 //p' out)" = "${want#0}" ] || fail "status is not $want"
}

test_cri()
{
	in_network cri_all
}

cri_all()
{
	local pod id first ip

	start_containerd
	mkdir logs vol
	cri_do RunPodSandbox "1, $POD, 2, 'bulkhead'"
	pod=$(value 1)
	cri_do PodSandboxStatus "1, '$pod'"
	ip=$(value 1.5.1)
	[[ $ip == 10.88.7.* ]] || fail "its address: $(cat out)"
	create c1 0 "7, [1, '/data', 2, '$PWD/vol']" -- sh -c \
		'echo page >/index.html; httpd -h /; echo $(hostname); echo x >/data/x
		trap "echo bye; exit 5" TERM; while :; do sleep 1; done'
	first=$id
	wait_until grep -sq 'stdout F host1' logs/c1.log || fail "no log"
	wait_until sh -c "curl -s http://$ip/index.html | grep -q page" ||
		fail "the pod does not answer"
	exec_in 0 sh -c '[ "$(nproc)" = 1 ] && [ "$(awk "/MemTotal/ { print \$2 }" /proc/meminfo)" -lt 262144 ]'
	exec_in 4 sh -c 'echo out; echo err >&2; exit 4'
	[ "$(value 1) $(value 2)" = 'out err' ] || fail "exec: $(cat out)"
	create c2 0 "7, [1, '/data', 2, '$PWD/vol']" -- sh -c 'cat /data/x; wget -qO - http://127.0.0.1/index.html; exit 3'
	run_to_end 3 Error
	[ "$(sed 's/.* stdout F //' logs/c2.log)" = "$(printf 'x\npage')" ] ||
		fail "no volume or network in common: $(cat logs/c2.log)"
	cri_do RemoveContainer "1, '$id'"
	create c2 1 -- sh -c 'exit 0'
	run_to_end 0 Completed
	create c3 0 'limits=4, \33554432' -- tail /dev/zero
	run_to_end 137 OOMKilled
	id=$first
	exec_in 0 true
	cri_do StopContainer "1, '$id', 2, \\$LIMIT"
	run_to_end 5 Error
	grep -q 'stdout F bye' logs/c1.log || fail "no signal"
	cri_do StopPodSandbox "1, '$pod'"
	cri_do RemovePodSandbox "1, '$pod'"
	stop_containerd
	expect_nothing_left
}
