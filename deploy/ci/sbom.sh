#!/usr/bin/env bash
# Writes what the image consists of to target/image/NAME.spdx.json: its packages, and the crates of Cargo.lock.
#
#   deploy/ci/sbom.sh user-service|serin
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
takes=1
help_or_go "$@"
name=${1:-user-service}
need syft "write bills of materials"
cd "$root"

# A static Rust program says nothing of its crates, so the lock file stands beside it.
content=$(mktemp -d)
trap 'rm -rf "$content"' EXIT
cp Cargo.lock "$content/"
syft scan "oci-archive:$out/$name.tar" --quiet --output "spdx-json=$out/$name.spdx.json"
syft scan "dir:$content" --source-name "$name" --quiet --output "spdx-json=$out/$name.crates.spdx.json"
