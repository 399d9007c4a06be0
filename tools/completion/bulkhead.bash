# SPDX-License-Identifier: Apache-2.0
# Completion of bulkhead(1) for bash.

_bulkhead_boot()
{
	local opts='--kernel --initrd --append --entry --config --memory --cpus
		--hugetlb --prefault --name --control --disk --net --share --vsock --device
		--no-rng --console --on-reboot --reboot-status --no-sandbox
		--assist --trace --log-level --json
		--dump-config --dump-dtb --list-devices --help'

	case $prev in
	--kernel)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -W distro -- "$cur")
		;;
	--initrd | --config | --control | --disk | --vsock | --dump-dtb)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--entry)
		mapfile -t COMPREPLY < <(compgen -W 'auto linux pvh' -- "$cur")
		;;
	--console)
		mapfile -t COMPREPLY < <(
			compgen -W 'auto serial virtio none' -- "$cur")
		;;
	--on-reboot)
		mapfile -t COMPREPLY < <(compgen -W 'exit restart' -- "$cur")
		;;
	--assist)
		mapfile -t COMPREPLY < <(compgen -W 'auto on off' -- "$cur")
		;;
	--trace)
		mapfile -t COMPREPLY < <(compgen -W boot -- "$cur")
		;;
	--log-level)
		mapfile -t COMPREPLY < <(
			compgen -W 'error warn info debug' -- "$cur")
		;;
	-m | --memory)
		mapfile -t COMPREPLY < <(
			compgen -W '128M 256M 512M 1G 2G 4G' -- "$cur")
		;;
	--net)
		local taps
		taps=$(grep -ls . /sys/class/net/*/tun_flags 2>/dev/null |
			sed 's|/sys/class/net/\(.*\)/tun_flags|tap=\1|')
		mapfile -t COMPREPLY < <(compgen -W "none user $taps" -- "$cur")
		;;
	--device)
		local types
		types=$("$1" boot --list-devices 2>/dev/null |
			sed -n 's/^  \([a-z]*\) .*/\1/p')
		mapfile -t COMPREPLY < <(compgen -W "$types" -- "$cur")
		;;
	--share)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	--append | --cpus | --name) ;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "$opts" -- "$cur")
		;;
	esac
}

# Sockets and directories, which have names of files.
_bulkhead_snapshot()
{
	local opts=--help

	[ "${COMP_WORDS[1]}" != snapshot ] || opts='--live --base --track --compress --help'
	[ "${COMP_WORDS[1]}" != restore ] ||
		opts='--control --name --clock-realtime --detach --rm --network --publish --verify --record --no-working-set --memory-server
			--disk --net --share --vsock --no-sandbox --trace --log-level
			--json --help'
	if [[ $cur == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$opts" -- "$cur")
	else
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}

# The commands of containers. With a name for an argument: which instances.
_bulkhead_container()
{
	local opts=--help names=''

	case ${COMP_WORDS[1]} in
	run)
		opts='--interactive --tty --detach --sig-proxy --entrypoint
			--env --env-file --workdir --user --group-add --cap-add
			--cap-drop --privileged --security-opt --ulimit --pids-limit
			--init
			--stop-signal --bundle --name --rm --label --hostname --read-only
			--rootfs-write --volume --mount --tmpfs --shm-size --sysctl
			--network --net --publish --dns --dns-search --add-host
			--memory --cpus --max-image-size --kernel --append --cold --guest-runtime --no-sandbox
			--trace --log-level --help'
		names=roots
		;;
	exec)
		opts='--interactive --tty --detach --env --env-file --workdir
			--user --privileged --process --help'
		names=-q
		;;
	clone)
		opts='--name --name-prefix --rm --signal --publish --no-publish --network
			--trace --log-level --help'
		names=-q
		;;
	ps)
		opts='--all --quiet --no-trunc --filter --json --format --help'
		;;
	cp)
		opts='--archive --follow-link --quiet --help'
		names=paths
		;;
	top)
		opts='--json --help'
		names=-q
		;;
	stats)
		opts='--no-stream --json --format --help'
		names=-q
		;;
	logs)
		opts='--follow --tail --timestamps --help'
		names=-aq
		;;
	stop)
		opts='--time --signal --help'
		names=-q
		;;
	start)
		opts='--attach --interactive --help'
		names=-aq
		;;
	restart)
		opts='--time --signal --help'
		names=-aq
		;;
	kill)
		opts='--signal --help'
		names=-q
		;;
	rm)
		opts='--force --help'
		names=-aq
		;;
	attach)
		opts='--no-stdin --sig-proxy --help'
		names=-q
		;;
	wait | inspect)
		opts=--help
		names=-aq
		;;
	template)
		opts='--quiet --all --help'
		names=templates
		;;
	pool)
		opts='--size --help'
		names=pools
		;;
	pause | resume | unpause)
		opts=--help
		names=machines
		;;
	volume)
		opts='--quiet --help'
		names=volumes
		;;
	bench)
		opts='--runs --only --driver --burst --staggered --limit --json --csv --html --memory --instances --idle --title --fail-if-slower --help'
		((COMP_CWORD > 2)) || names=benches
		;;
	images) opts='--quiet --json --help' ;;
	tag)
		opts=--help
		names=images
		;;
	rmi)
		opts=--help
		names=images
		;;
	esac
	case $prev in
	--network | --net)
		mapfile -t COMPREPLY < <(
			compgen -W 'none user namespace tap=' -- "$cur")
		;;
	--trace)
		mapfile -t COMPREPLY < <(compgen -W boot -- "$cur")
		;;
	--log-level)
		mapfile -t COMPREPLY < <(
			compgen -W 'error warn info debug' -- "$cur")
		;;
	--filter)
		mapfile -t COMPREPLY < <(compgen -W \
			'name= status= label= ancestor= exited=' -- "$cur")
		;;
	--format) mapfile -t COMPREPLY < <(compgen -W json -- "$cur") ;;
	*)
		if [[ $cur == -* ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$opts" -- "$cur")
		elif [ "$names" = images ]; then
			mapfile -t COMPREPLY < <(compgen -W "$(
				"$1" images 2>/dev/null |
					sed -n '2,$s/ .*//p'
			)" -- "$cur")
			__ltrim_colon_completions "$cur" 2>/dev/null
		elif [ "$names" = benches ]; then
			mapfile -t COMPREPLY < <(compgen -W 'startup list show compare density figures overhead' -- "$cur")
		elif [ "$names" = roots ]; then
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"
				compgen -W "$("$1" images 2>/dev/null |
					sed -n '2,$s/ .*//p')" -- "$cur")
			__ltrim_colon_completions "$cur" 2>/dev/null
		elif [ "$names" = paths ]; then
			compopt -o filenames -o nospace
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"
				compgen -W "$("$1" ps -q 2>/dev/null |
					sed 's/$/:/')" -- "$cur")
		elif [ "$names" = machines ]; then
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"
				compgen -W "$("$1" ps -q 2>/dev/null)" \
					-- "$cur")
		elif [ "$names" = volumes ]; then
			mapfile -t COMPREPLY < <(compgen -W \
				"ls create rm $("$1" volume -q 2>/dev/null)" \
				-- "$cur")
		elif [ "$names" = pools ]; then
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur"
				compgen -W "ls $("$1" images 2>/dev/null |
					sed -n '2,$s/ .*//p')" -- "$cur")
		elif [ "$names" = templates ]; then
			mapfile -t COMPREPLY < <(compgen -W \
				"ls make rm $("$1" template -q 2>/dev/null)" \
				-- "$cur")
		elif [ -n "$names" ]; then
			mapfile -t COMPREPLY < <(compgen -W \
				"$("$1" ps $names 2>/dev/null)" -- "$cur")
		else
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	esac
}

_bulkhead()
{
	local cur=${COMP_WORDS[COMP_CWORD]}
	local prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	# --option=value arrives as three words.
	if [ "$prev" = = ]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	elif [ "$cur" = = ]; then
		cur=
	fi
	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W \
			'run exec cp attach ps top stats logs stop start restart kill rm wait inspect volume template pool images tag rmi
			bench boot pause resume unpause snapshot restore clone
			check help version --help --version' -- "$cur")
		return
	fi
	case ${COMP_WORDS[1]} in
	boot) _bulkhead_boot "$1" ;;
	snapshot | restore) _bulkhead_snapshot ;;
	run | exec | cp | attach | ps | top | stats | logs | stop | start | restart | kill | rm | wait | inspect | volume | template | pool | \
		pause | resume | unpause | clone | images | tag | rmi | bench)
		_bulkhead_container "$1"
		;;
	check) mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$cur") ;;
	help)
		mapfile -t COMPREPLY < <(compgen -W \
			'run exec cp attach ps top stats logs stop start restart kill rm wait inspect volume template pool images tag rmi
			bench boot pause resume unpause snapshot restore clone
			check version' -- "$cur")
		;;
	esac
}

complete -F _bulkhead bulkhead
