#!/usr/bin/env bash
# Finds Redis, which the real Argo CD keeps its cache in, or unpacks Debian's packages into the cache without installing them, so that no
# server starts by itself; prints the path of redis-server. The libraries that it needs are installed by apt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

wanted=6
name=redis-at-least-$wanted

# version_of FILE: the version number, or nothing when it does not run.
version_of() { { "$1" --version 2>/dev/null || true; } | sed -n 's/.* v=\([0-9][0-9.]*\) .*/\1/p'; }
# fits FILE
fits() { at_least "$wanted" "$(version_of "$1")"; }

unpack() {
  local again="install Redis ≥ $wanted so that redis-server is on PATH, then run this again" server=$1/usr/bin/redis-server
  # One has the name, the other the program.
  unpack_debian "$1" "$again" redis-server redis-tools
  if ! fits "$server"; then
    local libraries
    libraries=$(apt-cache depends redis-tools | sed -n 's/.*Depends: \(lib[^ ]*\)$/\1/p' | grep -v '^libc6$')
    # shellcheck disable=SC2086 # a list of words
    apt_install "libraries of Redis" $libraries
  fi
  fits "$server" || fail "trying Debian's Redis" "its version is '$(version_of "$server")' (nothing when it does not start), and ≥ $wanted is needed" "$again"
  say "unpacked Redis $(version_of "$server")"
}

if [ ! -d "$CACHE/$name" ] && found=$(command -v redis-server) && fits "$found"; then
  printf '%s\n' "$found"
  exit
fi
once "$name" unpack
printf '%s\n' "$CACHE/$name/usr/bin/redis-server"
