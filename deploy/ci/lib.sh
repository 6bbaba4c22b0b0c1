#!/usr/bin/env bash
# What the pipeline's scripts share: help, errors, what they need. Sourced, not run.
# Nothing is traced and no secret is an argument: tools take theirs from the environment or from standard input.
set +x -euo pipefail

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# fail DOING HAPPENED NEXT: ends the script with a message that says all three.
fail() {
  printf '%s: failed while %s\n  what happened: %s\n  what to do: %s\n' "${0##*/}" "$1" "$2" "$3" >&2
  exit 1
}

# help_or_go "$@": the comment at the script's head is its help. No script takes arguments beside those of `takes`.
takes=0
help_or_go() {
  case ${1:-} in
    -h | --help)
      sed -n '2,/^[^#]/{/^[^#]/q;s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
  esac
  [ "$#" -le "$takes" ] || fail "reading the command line" "there are $# arguments, and it takes $takes: $*" "see $0 --help"
}

# need TOOL WHAT_FOR: is it on PATH?
need() { command -v "$1" >/dev/null || fail "looking for $1" "it is not on PATH" "install $1, which is needed to $2"; }

# given NAME…: these variables have to be set; their values are told to nobody.
given() {
  local name
  for name in "$@"; do
    [ -n "${!name:-}" ] || fail "reading the environment" "$name is not set" "set $name; $0 --help says what it is"
  done
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck disable=SC2034 # the scripts use it
out=${OUT:-target/image}
# Jenkins names folders of the workspace, and cargo is called from more than one.
case ${CARGO_HOME:-/} in /*) ;; *) export CARGO_HOME=$root/$CARGO_HOME ;; esac
