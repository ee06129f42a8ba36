#!/bin/sh
# The first process of a node's namespaces, in which it hides the machine's own state from what runs there. When it is
# killed the kernel ends all others, unmounts what they mounted and takes their network away.
# usage: namespaces.sh STATE ADDRESS...
set -eu
state=$1
shift

# Copies of other programs' containers would keep those alive after they are unmounted; some may be gone by now.
awk '$3 == "overlay" && $2 ~ /\/(merged|rootfs)$/ { print $2 }' /proc/self/mounts | tac | while read -r mounted; do
  umount --lazy "$mounted" 2>/dev/null || true
done

# Pods' network namespaces, sockets of shims and locks of iptables are kept here.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/netns /run/lock
for folder in /var/lib /var/log; do
  mkdir -p "$state$folder"
  mount --bind "$state$folder" "$folder"
done

# The kubelet sets these for the whole machine unless it finds them so (setupKernelTunables in its container manager).
pretend() {
  printf '%s\n' "$2" >"$state/$(basename "$1")"
  mount --bind "$state/$(basename "$1")" "/proc/sys/$1"
}
pretend vm/overcommit_memory 1
pretend vm/panic_on_oom 0
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
pretend kernel/keys/root_maxkeys 1000000
pretend kernel/keys/root_maxbytes 25000000

ip link set lo up
for address in "$@"; do
  ip address add "$address/32" dev lo
done
# Of this network namespace, as everything under net/.
echo 1 >/proc/sys/net/ipv4/ip_forward

: >"$state/ready"
# Whom their parents left become children of this process; the kernel forgets them at once when SIGCHLD is ignored.
trap '' CHLD
exec sleep infinity
