# shellcheck shell=sh # sourced by tests/engine-start and tests/boot
# SPDX-License-Identifier: Apache-2.0

# engine_use_root DIRECTORY ROOT SHARED...
#
# Makes ROOT the calling process's "/", below an overlay that is kept in
# DIRECTORY, with the SHARED directories of the host in it. In a mount namespace
# of its own: it ends with that. The caller has set -e.
engine_use_root()
{
	_dir=$1
	_new=$1/root
	mkdir -p "$_new" "$_dir/upper" "$_dir/rootwork"
	mount -t overlay overlay -o \
		"lowerdir=$2,upperdir=$_dir/upper,workdir=$_dir/rootwork" "$_new"
	shift 2
	for _d in /proc /sys /dev; do
		mount --rbind "$_d" "$_new$_d"
	done
	mount -t tmpfs tmpfs "$_new/run"
	for _d; do
		mkdir -p "$_new$_d"
		mount --bind "$_d" "$_new$_d"
	done
	cd "$_new" || return
	pivot_root . mnt
	umount -l /mnt
	cd /
}
