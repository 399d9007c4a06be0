# SPDX-License-Identifier: Apache-2.0
# Completion of bulkhead-runtime(1) for fish.

function __bulkhead_runtime_opt
	complete -c bulkhead-runtime -n "__fish_seen_subcommand_from $argv[1]" $argv[2..]
end

set -l commands create start run exec state kill delete list ps pause resume \
	update events spec features

complete -c bulkhead-runtime -f
complete -c bulkhead-runtime -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c bulkhead-runtime -l root -r -F -d 'where state is kept'
complete -c bulkhead-runtime -l log -r -F -d 'errors go there, too'
complete -c bulkhead-runtime -l log-format -xa 'text json' -d 'of that file'
complete -c bulkhead-runtime -l trace -xa 'boot boot=' -d 'note where the time of a start goes'
complete -c bulkhead-runtime -l cold -d 'machines boot, from no template'
complete -c bulkhead-runtime -l host-runtime -r -F -d 'runc or crun'
complete -c bulkhead-runtime -l systemd-cgroup -d 'control groups by systemd'
complete -c bulkhead-runtime -l rootless -x -d 'passed on'
complete -c bulkhead-runtime -l cgroup-manager -x -d 'passed on'
complete -c bulkhead-runtime -l criu -x -d 'passed on'
complete -c bulkhead-runtime -l debug -d 'say more'
complete -c bulkhead-runtime -l help -s h -d 'print help'
complete -c bulkhead-runtime -l version -s v -d 'print the version'
__bulkhead_runtime_opt 'create run spec' -l bundle -s b -r -F -d directory
__bulkhead_runtime_opt 'create run exec' -l console-socket -r -F -d 'gets the terminal'
__bulkhead_runtime_opt 'create run exec' -l pidfd-socket -r -F -d 'gets a pidfd'
__bulkhead_runtime_opt 'create run exec' -l pid-file -r -F -d 'gets the process number'
__bulkhead_runtime_opt 'create run' -l config -r -F -d 'in place of config.json'
__bulkhead_runtime_opt 'create run' -l no-pivot
__bulkhead_runtime_opt 'create run' -l no-new-keyring
__bulkhead_runtime_opt 'create run' -l no-subreaper
__bulkhead_runtime_opt 'run exec' -l detach -s d -d 'do not wait'
__bulkhead_runtime_opt run -l keep -d 'do not delete it'
__bulkhead_runtime_opt exec -l process -s p -r -F -d 'a process of JSON'
__bulkhead_runtime_opt exec -l cwd -x -d directory
__bulkhead_runtime_opt exec -l env -s e -x -d NAME=value
__bulkhead_runtime_opt exec -l user -s u -x -d uid:gid
__bulkhead_runtime_opt exec -l additional-gids -s g -x -d 'further groups'
__bulkhead_runtime_opt exec -l cap -s c -x -d capability
__bulkhead_runtime_opt exec -l tty -s t -d 'give it a terminal'
__bulkhead_runtime_opt exec -l no-new-privs -d 'no new privileges'
__bulkhead_runtime_opt exec -l cgroup -x -d 'passed on'
__bulkhead_runtime_opt exec -l ignore-paused -d 'wait for a paused one'
__bulkhead_runtime_opt 'list ps' -l format -s f -xa 'table json'
__bulkhead_runtime_opt list -l quiet -s q -d 'ids only'
__bulkhead_runtime_opt delete -l force -s f -d 'also one that runs'
__bulkhead_runtime_opt kill -l all -s a
__bulkhead_runtime_opt events -l stats -d once
__bulkhead_runtime_opt events -l interval -x
__bulkhead_runtime_opt spec -l rootless
__bulkhead_runtime_opt update -l resources -s r -r -F -d 'a file of JSON'
for name in blkio-weight cpu-period cpu-quota cpu-share cpu-rt-period \
		cpu-rt-runtime cpuset-cpus cpuset-mems memory memory-reservation \
		memory-swap pids-limit
	__bulkhead_runtime_opt update -l $name -x
end
__bulkhead_runtime_opt 'start exec state kill delete ps pause resume update events' \
	-a '(bulkhead-runtime list --quiet 2>/dev/null)' -d container
functions -e __bulkhead_runtime_opt
