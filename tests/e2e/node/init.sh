#!/bin/bash
# The first process in the node's namespaces: turns them into a machine of its own, and adopts what the node orphans.
set -eu
folder=$1

mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount --bind "$folder/log" /var/log
mount --bind "$folder/kubelet" /var/lib/kubelet
mount --make-rshared /var/lib/kubelet

# kubelet insists on these values. It finds them in files of ours, and has no reason to change the host's.
while read -r setting value; do
    shadow="$folder/settings/${setting//\//.}"
    echo "$value" > "$shadow"
    mount --bind "$shadow" "/proc/sys/$setting"
done << 'SETTINGS'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
SETTINGS

echo 1 > /proc/sys/net/ipv4/ip_forward
ip link set lo up
touch "$folder/namespaces-are-ready"
while :; do sleep 1; done
