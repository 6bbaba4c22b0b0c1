#!/usr/bin/env bash
# Makes sure of the system's own programs: git with its HTTP backend, setpriv, and curl; prints the paths of git's and of setpriv.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

wanted=2.38 # the first whose merge-tree works without a work tree

git_is_fit() {
  command -v git >/dev/null && [ -x "$(git --exec-path)/git-http-backend" ] && at_least "$wanted" "$(git --version | awk '{print $3}')"
}
git_is_fit || apt_install "git ≥ $wanted with http-backend" git
git_is_fit || fail "looking for git" "$(command -v git) is $(git --version), or has no http-backend in $(git --exec-path)" "install git ≥ $wanted with git-http-backend, and put it first on PATH"
command -v setpriv >/dev/null || apt_install "setpriv ends the lab's processes with their parent" util-linux
command -v curl >/dev/null || apt_install "curl is among the commands of the documents, which a story gives" curl

printf '%s\n' "$(command -v git)" "$(git --exec-path)/git-http-backend" "$(command -v setpriv)"
