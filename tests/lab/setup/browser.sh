#!/usr/bin/env bash
# Installs Chromium and its WebDriver, for the story that watches the page; prints the path of each.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

# A font, as without one the page's pictures are empty boxes.
packages=()
command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
command -v chromedriver >/dev/null || packages+=(chromium-driver)
[ "${#packages[@]}" = 0 ] || apt_install "a browser looks at the page" "${packages[@]}"
for program in chromium chromedriver; do
  command -v "$program" || fail "looking for $program" "its package brought no such program" "put $program into the PATH"
done
