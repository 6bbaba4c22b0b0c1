#!/usr/bin/env bash
# Makes sure of what the network namespaces of `make test-linkerd` are made with: ip and iptables, as root, and a kernel that has them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

[ "$(id -u)" = 0 ] || fail "making network namespaces" "only root may make them" "run it as root: sudo -E make test-linkerd"
command -v ip >/dev/null || apt_install "network namespaces for pods" iproute2
command -v iptables-restore >/dev/null || apt_install "the redirects to the proxies" iptables
command -v unshare >/dev/null || apt_install "a network of the lab's own" util-linux
# A network and a place for its names that nobody else sees; both go with the shell.
unshare --net sh -ec 'ip link set lo up; iptables -t nat -A OUTPUT -p tcp -m owner --gid-owner 2102 -j RETURN' >&2 ||
  fail "trying a network namespace with a redirect" "what it said stands above" "load the kernel's modules for iptables (nft_compat, xt_owner, xt_REDIRECT, xt_multiport)"
