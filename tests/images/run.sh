#!/usr/bin/env bash
# Tests the images that the pipeline's scripts make of a release's programs; then the limits of their sizes hold, too. `make test`
# runs the same tests with programs of the profile dev, which tests/images/build.sh makes together with everything else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

deploy/ci/programs.sh
cargo test --locked --workspace --test images -- "$@"
