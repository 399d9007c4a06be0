# shellcheck shell=bash disable=SC2034,SC2094,SC2154 # lib.sh
# SPDX-License-Identifier: Apache-2.0
#
# The console, seen by a user: pipes, a terminal, its size, its escape key, and
# its modes, which are restored on every way out.

# terminal STEPS... -- ACTIONS [OPTION]...
terminal()
{
	local steps=() actions

	while [ "$1" != -- ]; do
		steps+=("$1")
		shift
	done
	actions=$2
	shift 2
	command="pty ${steps[*]} -- bulkhead boot test=$actions $*"
	status=0
	timeout -k 5 "$LIMIT" "$GUEST/pty" "${steps[@]}" -- "$BULKHEAD" boot \
		--kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--append "test=$actions" "$@" >out 2>err || status=$?
}

# piped DELAY [OPTION]...: a pipe is read until its end, and the end ends
# nothing. DELAY: whether to type before or after the guest is ready.
piped()
{
	local when=$1

	shift
	command="echo typed | bulkhead boot $*"
	status=0
	: >out
	{
		[ "$when" = early ] || wait_for out 'ready to read'
		echo typed
	} | timeout -k 5 "$LIMIT" "$BULKHEAD" boot \
		--kernel "$KERNEL" --initrd "$GUEST/initrd" \
		--append test=read,echo:bye "$@" >>out 2>err || status=$?
	expect_ok
	expect_out 'got [typed]'
	expect_out bye
}

# Input that comes before the guest has opened its console waits for it.
test_pipe_virtio()
{
	piped early --console virtio
}

test_pipe_serial()
{
	piped early --console serial
	piped late --console serial
}

test_terminal_virtio()
{
	terminal raw 'expect=ready to read' 'type=hello\r' \
		'expect=got [hello]' 'expect=ready to read' \
		'type=a\x03\x1a\x01\x01b\r' 'expect=got [61031a0162]' \
		'expect=waiting for size' size=100x40 'expect=ok waitsize' \
		-- read,readhex,size,waitsize:100:40
	expect_status 0
	expect_out 'fact size 80x24'
}

test_terminal_serial()
{
	terminal raw 'expect=ready to read' 'type=hello\r' \
		'expect=got [hello]' -- read --console serial
	expect_status 0
}

test_escape_key()
{
	terminal 'expect=hanging' 'type=\x01x' -- hang
	expect_status 0
}

test_sigterm()
{
	terminal 'expect=hanging' raw signal=15 -- hang
	expect_status 143
}

test_sigint()
{
	# SIGINT typed goes to the guest; sent, it ends the monitor.
	terminal 'expect=ready to read' 'type=\x03\r' 'expect=got [03]' \
		'expect=hanging' signal=2 -- readhex,hang
	expect_status 130
}

# A start that fails must leave the terminal alone as well.
test_terminal_after_error()
{
	terminal -- echo:no --disk /nonexistent
	expect_status 2
}
