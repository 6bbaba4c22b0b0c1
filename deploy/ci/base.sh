#!/usr/bin/env bash
# Makes what the controller's image stands on, out of this Debian's packages and without a registry: git, ssh, gpg, a shell and
# certificate authorities, with the libraries that they need; no package manager, no Perl, no other tools.
# Any image that has these will do as well (git ≥ 2.38); say its name to image.sh instead.
#
#   BASE=registry/name:tag deploy/ci/base.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_or_go "$@"
given BASE
need buildah "build images"
need apt-get "fetch Debian's packages"
need dpkg-deb "unpack Debian's packages"

wanted=(git openssh-client ca-certificates gpg gpg-agent dash)
# What these ask for, and only their set-up, manuals or scripts use.
unused='^(adduser|debconf|debianutils|dpkg|gcc-12-base|git-man|libaudit.*|libcap-ng0|libdb5.*|libgdbm.*|libpam.*|libperl.*|libsemanage.*|libsepol.*|login|openssl|passwd|perl.*|pinentry.*|tar)$'

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/download/partial" "$folder/rootfs"/{usr/{bin,sbin,lib,lib64},etc/ssl/certs}
: >"$folder/status" # as on a machine that has nothing yet
apt-get -q -y -o Dir::State::status="$folder/status" -o Dir::Cache::archives="$folder/download" -o Debug::NoLocking=1 \
  -o APT::Sandbox::User=root --no-install-recommends --download-only install "${wanted[@]}" >"$folder/log" 2>&1 || {
  tail -n 5 "$folder/log" >&2
  fail "downloading ${wanted[*]}" "apt-get ended with an error (see above)" "run: sudo apt-get update"
}

root=$folder/rootfs
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
for package in "$folder"/download/*.deb; do
  if [[ $(dpkg-deb --field "$package" Package) =~ $unused ]]; then continue; fi
  dpkg-deb --fsys-tarfile "$package" |
    tar --extract --keep-directory-symlink --directory "$root" --exclude='./usr/share/doc*' --exclude='./usr/share/man*' --exclude='./usr/share/locale*' \
      --exclude='./usr/share/perl5*' --exclude='./usr/share/lintian*' --exclude='./usr/share/bash-completion*' --exclude='./var/*'
done
ln -sf dash "$root/usr/bin/sh"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
# ssh asks for the name of who it is.
printf '%s\n' 'root:x:0:0:root:/root:/usr/sbin/nologin' 'serin:x:65532:65532:serin:/tmp:/usr/sbin/nologin' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'serin:x:65532:' >"$root/etc/group"
printf '%s\n' 'passwd: files' 'group: files' 'hosts: files dns' >"$root/etc/nsswitch.conf"
mkdir -p "$root/tmp" "$root/proc" "$root/dev" "$root/sys"
chmod 1777 "$root/tmp"
chmod -R go-w "$root/etc" "$root/usr"
for program in git ssh ssh-keygen gpg sh; do
  [ -e "$root/usr/bin/$program" ] || fail "laying out the base" "$program is not in it" "see whether ${wanted[*]} still bring it"
done

printf 'FROM scratch\nCOPY rootfs /\n' >"$folder/Dockerfile"
buildah build --quiet --format oci --timestamp "${SOURCE_DATE_EPOCH:-0}" --identity-label=false --file "$folder/Dockerfile" --tag "$BASE" "$folder"
