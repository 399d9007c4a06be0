# shellcheck shell=bash disable=SC2034,SC2154,SC2004 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Shared by the tests of containers: a root, runs, and looking for leftovers.

# BULKHEAD_TEST_RUN_KERNEL=distro tests/run 'run*': the same tests with Debian's.
export BULKHEAD_RUNTIME_DIR=$PWD/instances
export BULKHEAD_KERNEL=${BULKHEAD_TEST_RUN_KERNEL:-$KERNEL}
[ "$BULKHEAD_KERNEL" != distro ] || need_distro
# BULKHEAD_TEST_TEMPLATES=1G tests/run 'run*': the same tests with machines that
# go on from templates. Without, each boots its own, and none waits for another.
export BULKHEAD_TEMPLATES=${BULKHEAD_TEST_TEMPLATES:-off}

# For guests of 64 MiB, up to 62 of which Debian's kernel takes when it starts.
need_small_kernel()
{
	[ "$BULKHEAD_KERNEL" != distro ] ||
		skip "the distribution's kernel needs more memory"
}

# count_mounts: below this directory; sets mounts
count_mounts()
{
	local place

	mounts=0
	while read -r _ place _; do
		[[ $place != "$PWD"/* ]] || mounts=$((mounts + 1))
	done </proc/mounts
}
count_mounts
mounts_before=$mounts

# make_root: a directory `root` with busybox in it, a copy of one that the first
# test makes.
make_root()
{
	[ -d "$BULKHEAD_TEST_SHARED/root" ] || make_first_root
	cp -a "$BULKHEAD_TEST_SHARED/root" root
}

make_first_root()
{
	local busybox root=$BULKHEAD_TEST_SHARED/root

	busybox=$(command -v busybox) || skip "no busybox"
	! ldd "$busybox" >/dev/null 2>&1 || skip "busybox is not static"
	rm -rf "$root.part"
	mkdir -p "$root.part"/{bin,etc,tmp,root}
	chmod 1777 "$root.part/tmp"
	cp -L "$busybox" "$root.part/bin/busybox"
	# One process for all: 400 of them take seconds in the lab.
	"$busybox" --list | perl -lne 'BEGIN { chdir shift }
		symlink "busybox", $_' "$root.part/bin"
	echo root:x:0:0:root:/root:/bin/sh >"$root.part/etc/passwd"
	echo user:x:1000:1000:user:/home:/bin/sh >>"$root.part/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\nmore:x:1001:user\n' \
		>"$root.part/etc/group"
	mv "$root.part" "$root"
}

# make_archive FILE [TAR-OPTION]...: of `root`, an archive as `docker save` writes
# it, with an image's say in the command: image_config, if that is set.
default_config='"Entrypoint":["/bin/echo","says"],"Cmd":["nothing"],"WorkingDir":"/tmp"'
make_archive()
{
	local layer config to=$1

	shift
	rm -rf image
	tar -C root "$@" -cf layer.tar .
	layer=$(sha256sum <layer.tar | cut -d' ' -f1)
	mkdir -p image/"$layer"
	mv layer.tar image/"$layer"/layer.tar
	printf '{"architecture":"amd64","os":"linux","config":{"Env":%s,%s},%s}' \
		'["FROM=image"]' \
		"${image_config:-"$default_config"}" \
		'"rootfs":{"type":"layers","diff_ids":["sha256:'"$layer"'"]}' \
		>image/config.json
	config=$(sha256sum <image/config.json | cut -d' ' -f1).json
	mv image/config.json image/"$config"
	printf '[{"Config":"%s","RepoTags":["test:1"],"Layers":["%s"]}]' \
		"$config" "$layer/layer.tar" >image/manifest.json
	tar -C image -cf "$to" .
}

# blob DIRECTORY FILE: moves it into an OCI layout; prints its digest and size.
blob()
{
	local digest size

	digest=$(sha256sum <"$2" | cut -d' ' -f1)
	size=$(stat -c %s "$2")
	mkdir -p "$1"/blobs/sha256
	mv "$2" "$1/blobs/sha256/$digest"
	printf '"digest":"sha256:%s","size":%s' "$digest" "$size"
}

# make_layout DIRECTORY: what make_archive made, as an OCI layout with a tag.
make_layout()
{
	local type=application/vnd.oci.image config layer manifest

	config=$(find image -name '*.json' ! -name manifest.json)
	cp "$config" config
	cp image/*/layer.tar layer
	config=$(blob "$1" config)
	layer=$(blob "$1" layer)
	printf '{"schemaVersion":2,"config":{"mediaType":"%s",%s},%s}' \
		$type.config.v1+json "$config" \
		'"layers":[{"mediaType":"'$type'.layer.v1.tar",'"$layer"'}]' \
		>manifest
	manifest=$(blob "$1" manifest)
	printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s",%s,%s}]}' \
		$type.manifest.v1+json "$manifest" \
		'"annotations":{"org.opencontainers.image.ref.name":"tag"}' \
		>"$1"/index.json
	printf '{"imageLayoutVersion":"1.0.0"}' >"$1"/oci-layout
}

# bulkhead ARGUMENT...: to its end; sets status, out, err.
bulkhead()
{
	command="bulkhead $*"
	status=0
	timeout -k 5 "$LIMIT" "$BULKHEAD" "$@" >out 2>err </dev/null ||
		status=$?
	[ "$status" -ne 124 ] || fail "no end within $LIMIT s"
}

# Options of every run: tests/boot/crun.sh has one.
declare -a how=()

# run ARGUMENT...: in the foreground, without a network.
run()
{
	bulkhead run "${how[@]}" --network none "$@"
}

# start NAME ARGUMENT...: in the background, `run -d`.
start()
{
	local name=$1

	shift
	run -d --name "$name" "$@"
	expect_status 0
	[ "$(cat out)" = "$name" ] || fail "its name is not printed"
}

# run_start NAME ARGUMENT...: in the background, with NAME.out and NAME.err.
run_start()
{
	local name=$1

	shift
	command="bulkhead run --name $name $*"
	timeout -k 5 "$LIMIT" "$BULKHEAD" run "${how[@]}" --network none \
		--name "$name" "$@" >"$name.out" 2>"$name.err" </dev/null &
	running[$name]=$!
}

# logged NAME TEXT: it is in NAME's log
logged()
{
	bulkhead logs "$1"
	grep -qF "$2" out
}

# field NAME FIELD: from `ps --json`.
field()
{
	# Python takes seconds to start in the lab.
	"$BULKHEAD" ps -a --json | perl -MJSON::PP -0777 -ne '
		BEGIN { ($name, $field) = splice @ARGV, 0, 2 }
		for (grep { $_->{name} eq $name } @{decode_json($_)}) {
			print $_->{$field} // "", "\n";
		}' "$1" "$2"
}

# monitor_pid NAME: prints the process number of a running instance's monitor.
monitor_pid()
{
	field "$1" pid
}

parent_of()
{
	sed -n 's/^PPid:\t//p' "/proc/$1/status" 2>/dev/null
}

is_gone()
{
	[ ! -d "/proc/$1" ]
}

wait_gone()
{
	wait_until is_gone "$1" || fail "process $1 does not end"
}

# Processes of this test's: all have its directory in the environment.
our_processes()
{
	local exe

	for exe in /proc/[0-9]*/exe; do
		[ "$exe" -ef "$BULKHEAD" ] &&
			grep -qzxF "BULKHEAD_RUNTIME_DIR=$BULKHEAD_RUNTIME_DIR" \
				"${exe%exe}environ" 2>/dev/null &&
			echo "${exe//[!0-9]/}"
	done
	return 0
}

no_process()
{
	[ -z "$(our_processes)" ]
}

# Kills the processes of this test, whatever way it ends.
end_all()
{
	local pid

	for pid in $(our_processes); do
		kill -KILL "$pid" 2>/dev/null
	done
}
trap end_all EXIT

is_swept()
{
	[ ! -e "$BULKHEAD_RUNTIME_DIR" ]
}

# Waits until the directory of instances has gone, which no later command of
# this test has to remove.
expect_swept()
{
	wait_until is_swept || fail "left: $(find "$BULKHEAD_RUNTIME_DIR")"
	expect_nothing_left
}

# No process, no directory, nothing mounted below here.
expect_nothing_left()
{
	# A process that was told to end may take a moment on a busy machine.
	wait_until no_process || fail "left behind: process $(our_processes)"
	[ ! -e "$BULKHEAD_RUNTIME_DIR" ] ||
		fail "left behind: $(find "$BULKHEAD_RUNTIME_DIR")"
	count_mounts
	[ "$mounts" = "$mounts_before" ] || fail "left behind: a mount"
}

# run_logged WANTED LACK ARGUMENT...: a run whose log has WANTED, else fails with
# LACK, and no warning; `err` is left empty.
run_logged()
{
	local wanted=$1 lack=$2

	shift 2
	run --rm --log-level debug "$@"
	grep -q "$wanted" err || fail "$lack: $(cat err)"
	! grep -q ' warn: ' err || fail "a warning: $(cat err)"
	: >err
}
