#!/usr/bin/env bash
# Finds Lua 5.1, the version that Argo CD's own interpreter speaks, or installs Debian's; prints its path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

command -v lua5.1 >/dev/null || apt_install "Argo CD's scripts are tried in Lua 5.1" lua5.1
command -v lua5.1 || fail "looking for Lua 5.1" "there is no lua5.1 on PATH" "install Debian's package lua5.1"
