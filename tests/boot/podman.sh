# shellcheck shell=bash disable=SC1091,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# The machine's own Podman, of release 4.3 with Debian 12.

. "$TOP/tests/boot/podman-lib.sh"

test_root()
{
	podman_as_root
}

test_pod()
{
	podman_pods
}

test_user()
{
	podman_as_user
}

test_user_ports()
{
	podman_ports_of_user
}

test_kube()
{
	podman_kube_play
}
