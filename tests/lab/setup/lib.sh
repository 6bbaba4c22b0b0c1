#!/usr/bin/env bash
# What the setup scripts share: the cache folder, progress, errors, and installing a thing exactly once.
# Sourced, not run. Scripts print paths on stdout; everything for people goes to stderr.
set -euo pipefail

say() { printf 'lab setup: %s\n' "$*" >&2; }

# fail DOING HAPPENED NEXT: ends the script with a message that says all three.
fail() {
  printf 'lab setup: failed while %s\n  what happened: %s\n  what to do: %s\n' "$1" "$2" "$3" >&2
  exit 1
}

if [ -z "${SERIN_CACHE:-}${XDG_CACHE_HOME:-}${HOME:-}" ]; then
  fail "choosing the cache folder" "none of SERIN_CACHE, XDG_CACHE_HOME and HOME is set" "set SERIN_CACHE to a folder that may grow by 400 MB"
fi
CACHE=${SERIN_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/serin}
mkdir -p "$CACHE" || fail "creating the cache folder" "mkdir $CACHE did not work" "set SERIN_CACHE to a folder that you may write to"
CACHE=$(cd "$CACHE" && pwd)

beat_pid='' log='' work=''
at_exit() {
  [ -z "$beat_pid" ] || kill "$beat_pid" 2>/dev/null || true
  rm -rf ${log:+"$log"} ${work:+"$work"}
}
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# beat WHAT LOG: a line now and then, with the newest line of the log, until it is killed or the script is gone.
beat() {
  local start=$SECONDS sleeper='' newest
  trap '[ -z "$sleeper" ] || kill "$sleeper" 2>/dev/null; exit 0' TERM
  while kill -0 $$ 2>/dev/null; do
    sleep 10 & sleeper=$!
    wait "$sleeper"
    newest=$(tail -n 1 "$2" 2>/dev/null | tr -d '\r' | cut -c1-100)
    say "  … $1: $((SECONDS - start)) s${newest:+, now $newest}"
  done
}

# patiently WHAT NEXT COMMAND…: runs the command (a program, not a function) with its output in a log. Shows progress,
# and on failure the log's end together with NEXT, which says what to do then.
patiently() {
  local what=$1 next=$2 start=$SECONDS code=0
  shift 2
  log=$(mktemp "$CACHE/.log.XXXXXX")
  say "$what"
  beat "$what" "$log" & beat_pid=$!
  "$@" >"$log" 2>&1 || code=$?
  kill "$beat_pid" 2>/dev/null || true
  wait "$beat_pid" 2>/dev/null || true
  beat_pid=
  if [ "$code" != 0 ]; then
    tail -n 25 "$log" | sed 's/^/    /' >&2
    fail "$what" "'$1' ended with exit code $code after $((SECONDS - start)) s; the end of its output stands above" "$next"
  fi
  rm -f "$log"
  log=
  say "  done: $what ($((SECONDS - start)) s)"
}

# once NAME FUNCTION: makes sure that $CACHE/NAME is there. FUNCTION is called with an empty folder to fill, which then gets
# its name in one step: the folder is either whole or absent. Of several runs side by side one installs, the others wait.
once() {
  local name=$1 fill=$2 start=$SECONDS
  [ ! -d "$CACHE/$name" ] || return 0
  exec 9>"$CACHE/.$name.lock"
  until flock -w 10 9; do say "  … waiting for another run that installs $name: $((SECONDS - start)) s"; done
  if [ ! -d "$CACHE/$name" ]; then
    rm -rf "$CACHE/.$name.part."* # of a run that was killed: whoever holds the lock is alone
    work=$(mktemp -d "$CACHE/.$name.part.XXXXXX")
    "$fill" "$work" 9>&- # no child keeps the lock
    chmod 755 "$work"
    mv -T "$work" "$CACHE/$name"
    work=
  fi
  exec 9>&-
}

# at_least WANTED FOUND: compares versions such as 2.38 and 2.39.5.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# apt_update: refreshes the package lists; another apt may hold their lock for a moment.
apt_update() {
  patiently "refreshing the list of Debian packages" "check that the machine reaches its Debian mirror, then run this again" \
    bash -c 'for try in 1 2 3 4 5; do apt-get -q update && exit; sleep 5; done; exit 1'
}

# apt_install WHAT_FOR PACKAGE…: for small programs of the system itself.
apt_install() {
  local purpose=$1
  shift
  command -v apt-get >/dev/null || fail "installing $* ($purpose)" "this system has no apt-get" "install $* by the system's own means, then run this again"
  [ "$(id -u)" = 0 ] || fail "installing $* ($purpose)" "only root may install packages" "run: sudo apt-get install $*"
  apt-cache show "$@" >/dev/null 2>&1 || apt_update
  patiently "installing $* ($purpose)" "run: apt-get update && apt-get install $*" \
    env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"
}

# unpack_debian FOLDER NEXT PACKAGE…: puts the packages' files below the folder without installing them, so that no daemon starts and
# no system's configuration changes. NEXT says what to do where that does not work.
unpack_debian() {
  local folder=$1 next=$2 package
  shift 2
  { command -v apt-get && command -v dpkg-deb; } >/dev/null || fail "getting $*" "this system has no apt-get to take $* from" "$next"
  mkdir "$folder/download"
  local fetch=(env -C "$folder/download" apt-get -q -o APT::Sandbox::User=root download "$@")
  # The lists may be absent or stale, and name a file that the mirror no longer has.
  if ! "${fetch[@]}" >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] || fail "downloading $*" "apt-get's lists are absent or stale, and only root may refresh them" "run: sudo apt-get update"
    apt_update
    patiently "downloading $*" "$next" "${fetch[@]}"
  fi
  for package in "$folder"/download/*.deb; do dpkg-deb -x "$package" "$folder"; done
  rm -r "${folder:?}/download"
}
