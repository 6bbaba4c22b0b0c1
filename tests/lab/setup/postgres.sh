#!/usr/bin/env bash
# Finds PostgreSQL, or unpacks Debian's package into the cache without installing it, so that no server starts by itself; prints
# the folder of its programs. The libraries that it needs are installed by apt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

wanted=13
name=postgresql-unpacked

# version_of FOLDER: the major version, or nothing when it does not run.
version_of() { { "$1/postgres" --version 2>/dev/null || true; } | sed -n 's/.* \([0-9][0-9]*\)[. ].*/\1/p'; }
# newest GLOB…: the last of these folders that has a fit server, if one has.
newest() {
  local folder found=
  for folder in "$@"; do
    if [ -x "$folder/postgres" ] && [ -x "$folder/initdb" ] && at_least "$wanted" "$(version_of "$folder")"; then found=$folder; fi
  done
  printf '%s' "$found"
}

unpack() {
  local again="install PostgreSQL ≥ $wanted, then run this again" package
  command -v apt-cache >/dev/null || fail "getting PostgreSQL" "there is none ≥ $wanted in /usr/lib/postgresql, and this system has no apt-cache to look for it" "$again"
  # The metapackage names the version that this Debian has.
  find_package() { apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: \(postgresql-[0-9][0-9]*\)$/\1/p' | head -n 1; }
  package=$(find_package)
  if [ -z "$package" ]; then
    [ "$(id -u)" = 0 ] || fail "looking for the package postgresql" "apt-get's lists are absent, and only root may refresh them" "run: sudo apt-get update"
    apt_update
    package=$(find_package)
  fi
  [ -n "$package" ] || fail "looking for the package postgresql" "apt knows of none" "$again"
  unpack_debian "$1" "$again" "$package"
  if [ -z "$(newest "$1"/usr/lib/postgresql/*/bin)" ]; then
    # libllvm is for compiled queries, which no test makes.
    local libraries
    libraries=$(apt-cache depends "$package" | sed -n 's/.*Depends: \(lib[^ ]*\)$/\1/p' | grep -v '^libllvm')
    # shellcheck disable=SC2086 # a list of words
    apt_install "libraries of PostgreSQL" $libraries
  fi
  [ -n "$(newest "$1"/usr/lib/postgresql/*/bin)" ] || fail "trying Debian's PostgreSQL" "$package does not start" "$again"
  say "unpacked $package"
}

found=
if [ ! -d "$CACHE/$name" ]; then found=$(newest /usr/lib/postgresql/*/bin); fi
if [ -z "$found" ]; then
  once "$name" unpack
  found=$(newest "$CACHE/$name"/usr/lib/postgresql/*/bin)
fi
printf '%s\n' "$found"
