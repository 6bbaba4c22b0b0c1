#!/usr/bin/env bash
# Unpacks Debian's Buildah, crun and registry into the cache without installing them, so that no daemon starts and no system's
# configuration changes; prints the path of each. The libraries that they need are installed by apt.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

name=images-unpacked
packages=(buildah crun docker-registry)
again="install ${packages[*]}, then run this again"

missing() { ldd "$1/usr/bin/buildah" "$1/usr/bin/crun" | sed -n 's/^[[:space:]]*\([^ ]*\) => not found$/\1/p' | sort -u | paste -sd' '; }

unpack() {
  unpack_debian "$1" "$again" "${packages[@]}"
  rm -r "${1:?}/etc"
  say "unpacked ${packages[*]}"
}

once "$name" unpack
if [ -n "$(missing "$CACHE/$name")" ]; then
  libraries=$(apt-cache depends buildah crun | sed -n 's/.*Depends: \(lib[^ ]*\)$/\1/p' | grep -vx libc6 | sort -u)
  # shellcheck disable=SC2086 # a list of words
  apt_install "libraries of Buildah and crun" $libraries
  [ -z "$(missing "$CACHE/$name")" ] || fail "trying Buildah and crun" "these libraries are missing: $(missing "$CACHE/$name")" "$again"
fi
for program in "${packages[@]}"; do printf '%s\n' "$CACHE/$name/usr/bin/$program"; done
