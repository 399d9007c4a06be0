# shellcheck shell=bash disable=SC2034,SC2154,SC2016,SC1090 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Docker's containers in machines of their own: a real dockerd with
# bulkhead-runtime as one of its runtimes.

. "$TOP/tests/boot/run-lib.sh"
. "$TOP/tests/boot/dockerd.sh"

# docker_run ARGUMENT...: status, out, err
docker_run()
{
	command="docker run --runtime bulkhead --network none $*"
	status=0
	timeout -k 5 "$LIMIT" docker run --runtime bulkhead --network none "$@" \
		>out 2>err </dev/null || status=$?
}

test_docker_run()
{
	local id

	need_root
	command -v dockerd >/dev/null || skip "no dockerd"
	command -v docker >/dev/null || skip "no docker"
	make_root
	start_dockerd --add-runtime "bulkhead=$BULKHEAD-runtime"
	tar -C root -c . | docker import - box:1 >out 2>err || fail "import: $(cat err)"
	mkdir vol
	docker_run --rm -e A=b -m 256m -v "$PWD/vol:/vol" --hostname h1 box:1 sh -c '
		echo $A; hostname; cat /etc/hosts | tail -n 1; echo x >/vol/x
		grep Seccomp: /proc/self/status; free -m | sed -n 2p; exit 5'
	expect_status 5
	[ "$(cat vol/x)" = x ] || fail "no file on the volume"
	grep -q '^Seccomp:.*2$' out || fail "no filter"
	docker run -d --runtime bulkhead --network none --name d1 -m 256m box:1 sh -c \
		'trap "echo term; exit 4" TERM; touch /made; echo up; while :; do sleep 1; done' >out 2>err ||
		fail "run -d: $(cat err)"
	wait_until sh -c 'docker logs d1 2>&1 | grep -q up'
	docker exec d1 sh -c 'echo in; exit 6' >out 2>err && fail "no status" || status=$?
	expect_status 6
	[ "$(cat out)" = in ] || fail "exec: $(cat out err)"
	docker exec d1 /nonexistent >out 2>err || status=$?
	expect_status 127
	docker stats --no-stream --format '{{.MemUsage}}' d1 >out 2>err ||
		fail "stats: $(cat err)"
	grep -q '384MiB' out || fail "not the limit and the monitor's: $(cat out)"
	docker stop -t "$LIMIT" d1 >out 2>err || fail "stop: $(cat err)"
	[ "$(docker inspect -f '{{.State.ExitCode}}' d1)" = 4 ] || fail "status"
	docker logs d1 2>&1 | grep -q term || fail "no signal"
	docker diff d1 >out 2>err || fail "diff: $(cat err)"
	[ "$(grep -v '^[AC] /\(dev\|proc\|sys\|etc\)\(/\|$\)' out)" = 'A /made' ] ||
		fail "changes: $(cat out)"
	docker rm d1 >out 2>err || fail "rm: $(cat err)"
	stop_dockerd
	expect_nothing_left
}
