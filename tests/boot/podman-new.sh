# shellcheck shell=bash disable=SC1091,SC2034,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# Podman 5 of a Debian sid (tests/engine-root), whose users' networks are made by
# pasta.

. "$TOP/tests/boot/podman-lib.sh"

use_new()
{
	need_root
	podman_root=$("$TOP/tests/engine-root" podman 2>&1) || skip "$podman_root"
}

test_root()
{
	use_new
	podman_as_root
}

test_pod()
{
	use_new
	podman_pods
}

test_user()
{
	use_new
	podman_as_user
}

test_user_ports()
{
	use_new
	podman_ports_of_user
}

test_kube()
{
	use_new
	podman_kube_play
}
