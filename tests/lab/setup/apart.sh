#!/usr/bin/env bash
# apart.sh COMMAND…: runs a command in a network of its own, in which the lab can make its pods' networks. What is made there ends with
# the command; the machine's network and the names of its namespaces are not touched.
set -euo pipefail
mkdir -p /run/netns /etc/netns
exec unshare --net --mount --propagation private bash -euo pipefail -c '
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /etc/netns
ip link set lo up
SERIN_APART=$(readlink /proc/self/ns/net) exec "$@"' apart "$@"
