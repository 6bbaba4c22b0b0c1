#!/usr/bin/env bash
# Builds the workspace's programs and tests, the images' two programs as static files, and puts those into target/image.
#
# Only the last step of a program knows that it is static. cargo rustc could tell it so, but for one package alone it gives
# dependencies other features, and builds all of them once more; so rustc is called through this script.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

case ${1:-} in
  */rustc | rustc)
    case " $* " in
      *" --crate-name user_service "*" --crate-type bin "* | *" --crate-name serin "*" --crate-type bin "*)
        exec "$@" -C target-feature=+crt-static -C strip=symbols
        ;;
    esac
    exec "$@"
    ;;
esac

cd "$here/../.."
build() { RUSTC_WRAPPER=$here/build.sh cargo build --locked "${@:---workspace}" --bins --tests; }
# is_static FILE
is_static() { ldd "$1" 2>&1 | grep -E 'statically linked|not a dynamic executable' >/dev/null; }

build "$@"
stale=()
is_static target/debug/user-service || stale+=(service/src/main.rs)
is_static target/debug/serin || stale+=(controller/src/main.rs)
if [ "${#stale[@]}" != 0 ]; then
  # Others built them last, and cargo does not know that it matters by whom.
  touch "${stale[@]}"
  build "$@"
fi
mkdir -p target/image
install target/debug/user-service target/debug/serin target/image/
printf 'dev\n' >target/image/profile
