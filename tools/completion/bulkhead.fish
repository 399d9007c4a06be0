# SPDX-License-Identifier: Apache-2.0
# Completion of bulkhead(1) for fish.

complete -c bulkhead -f
complete -c bulkhead -n __fish_use_subcommand -a boot -d 'boot a guest'
complete -c bulkhead -n __fish_use_subcommand -a check -d 'say what this host can do'
complete -c bulkhead -n __fish_use_subcommand -a help -d 'explain a command'
complete -c bulkhead -n __fish_use_subcommand -a version -d 'print the version'
complete -c bulkhead -n '__fish_seen_subcommand_from help' -a 'boot check version'
complete -c bulkhead -n '__fish_seen_subcommand_from check' -l json -d 'print JSON'

function __bulkhead_boot
    complete -c bulkhead -n '__fish_seen_subcommand_from boot' $argv
end
__bulkhead_boot -l kernel -rF -d 'what to boot'
__bulkhead_boot -l initrd -rF -d 'initial RAM disk'
__bulkhead_boot -l append -x -d 'add to the kernel command line'
__bulkhead_boot -l entry -xa 'auto linux pvh' -d 'how the kernel is entered'
__bulkhead_boot -l config -rF -d 'read a JSON configuration'
__bulkhead_boot -l memory -xa '128M 256M 512M 1G 2G 4G' -d 'guest RAM'
__bulkhead_boot -l cpus -x -d 'virtual CPUs'
__bulkhead_boot -l hugetlb -d 'take RAM from reserved huge pages'
__bulkhead_boot -l prefault -d 'take all RAM before the guest starts'
__bulkhead_boot -l name -x -d 'name of the VM'
__bulkhead_boot -l disk -rF -d 'add a disk'
__bulkhead_boot -l net -xa 'none user tap=' -d 'add a network interface'
__bulkhead_boot -l vsock -rF -d 'sockets between guest and host'
__bulkhead_boot -l share -xa '(__fish_complete_directories)' -d 'share a directory'
__bulkhead_boot -l device -x -d 'add a device of any type'
__bulkhead_boot -l no-rng -d 'leave out the random number device'
__bulkhead_boot -l console -xa 'auto serial virtio none' -d 'where standard input and output go'
__bulkhead_boot -l no-sandbox -d 'do not confine the monitor'
__bulkhead_boot -l assist -xa 'auto on off' -d 'finish what the emulator of KVM cannot'
__bulkhead_boot -l log-level -xa 'error warn info debug' -d 'how much to say'
__bulkhead_boot -l json -d 'messages as JSON'
__bulkhead_boot -l dump-config -d 'print the configuration'
__bulkhead_boot -l dump-dtb -rF -d 'write the device tree'
__bulkhead_boot -l list-devices -d 'print device types and their keys'
__bulkhead_boot -l help -d 'print help'
functions -e __bulkhead_boot
