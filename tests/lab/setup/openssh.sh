#!/usr/bin/env bash
# Makes sure of OpenSSH's client, keys and server, and of GnuPG and OpenSSL, with which Serin's tests meet real Git servers and
# verify signatures; prints the path of sshd. Debian's server is unpacked into the cache and not installed, so no daemon starts.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

name=openssh-server-unpacked

{ command -v ssh && command -v ssh-keygen; } >/dev/null || apt_install "git over SSH, and SSH signatures" openssh-client
command -v gpg >/dev/null || apt_install "OpenPGP signatures" gnupg
command -v openssl >/dev/null || apt_install "a certificate authority for tests" openssl

unpack() {
  local again="install openssh-server, then run this again"
  unpack_debian "$1" "$again" openssh-server libwrap0
  # sshd starts itself anew for each connection, by its own path and with this environment.
  printf '#!/bin/sh\nhere=$(dirname "$(readlink -f "$0")")\nLD_LIBRARY_PATH=$(echo "$here"/usr/lib/*-linux-gnu*) exec "$here/usr/sbin/sshd" "$@"\n' >"$1/sshd"
  chmod 755 "$1/sshd"
  say "unpacked sshd"
}

sshd=/usr/sbin/sshd
if [ ! -x "$sshd" ]; then
  once "$name" unpack
  sshd=$CACHE/$name/sshd
fi
if [ "$(id -u)" = 0 ]; then
  # Without these two, sshd does not start as root; the package would make them.
  mkdir -p /run/sshd
  getent passwd sshd >/dev/null || useradd --system --no-create-home --home-dir /run/sshd --shell /usr/sbin/nologin sshd
fi
said=$("$sshd" -t -f /dev/null 2>&1 || true) # without host keys it ends, but says so itself
case $said in
  *"no hostkeys available"* | '') ;;
  *) fail "trying $sshd" "it says: $said" "install openssh-server, then run this again" ;;
esac
printf '%s\n' "$sshd"
