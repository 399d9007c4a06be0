# SPDX-License-Identifier: Apache-2.0
# Completion of bulkhead-runtime(1) for bash.

_bulkhead_runtime_options()
{
	case $1 in
	create | run)
		echo '--bundle --config --console-socket --pid-file --pidfd-socket
			--no-pivot --no-new-keyring --no-subreaper'
		[ "$1" = create ] || echo '--detach --keep'
		;;
	exec)
		echo '--process --cwd --env --user --additional-gids --cap --tty
			--detach --no-new-privs --console-socket --pid-file
			--pidfd-socket --cgroup --ignore-paused'
		;;
	list) echo '--format --quiet' ;;
	ps) echo '--format' ;;
	delete) echo '--force' ;;
	kill) echo '--all' ;;
	events) echo '--stats --interval' ;;
	spec) echo '--bundle --rootless' ;;
	update)
		echo '--resources --blkio-weight --cpu-period --cpu-quota
			--cpu-share --cpu-rt-period --cpu-rt-runtime --cpuset-cpus
			--cpuset-mems --memory --memory-reservation --memory-swap
			--pids-limit'
		;;
	esac
}

_bulkhead_runtime()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command='' words='' i
	local commands='create start run exec state kill delete list ps pause resume
		update events spec features'

	for ((i = 1; i < COMP_CWORD; i++)); do
		[[ " ${commands//[$'\n\t']/ } " != *" ${COMP_WORDS[i]} "* ]] || {
			command=${COMP_WORDS[i]}
			break
		}
	done
	case $prev in
	--root | --bundle | --cwd)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	--log | --host-runtime | --pid-file | --process | --resources | \
		--console-socket | --pidfd-socket)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--trace)
		mapfile -t COMPREPLY < <(compgen -W 'boot boot=' -- "$cur")
		return
		;;
	--log-format)
		mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$cur")
		return
		;;
	esac
	if [ -z "$command" ]; then
		words="$commands --root --log --log-format --host-runtime --cold --trace
			--debug --systemd-cgroup --rootless --cgroup-manager --criu --help
			--version"
	elif [[ $cur == -* ]]; then
		words=$(_bulkhead_runtime_options "$command")
	elif [[ $command != @(create|run|list|spec|features) ]]; then
		words=$("$1" list --quiet 2>/dev/null)
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _bulkhead_runtime bulkhead-runtime
