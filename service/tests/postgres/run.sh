#!/usr/bin/env bash
# A PostgreSQL of its own for tests: run.sh PROGRAMS FOLDER. It listens on a socket in the folder only, is owned by a user
# without rights, says `ready`, obeys the lines `stop` and `start`, and is gone with its folder when standard input ends.
set -euo pipefail
programs=$1 folder=$2
command=()
if [ "$(id -u)" = 0 ]; then
  # PostgreSQL refuses to run as root.
  user=nobody
  if getent passwd postgres >/dev/null; then user=postgres; fi
  chown "$user" "$folder"
  command=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups)
fi
cd "$folder"
pg() {
  local program=$1
  shift
  "${command[@]}" "$programs/$program" -D "$folder/data" "$@" >>log 2>&1 </dev/null || { cat log >&2; exit 1; }
}
stop() { pg pg_ctl -w -m immediate stop; }
start() {
  # What is lost with the machine is no loss here.
  pg pg_ctl -w -l "$folder/server.log" -o "-h '' -k '$folder' -F -c max_connections=200 -c shared_buffers=32MB" start
  echo ready
}
at_end() {
  trap - EXIT
  [ ! -e data/postmaster.pid ] || "${command[@]}" "$programs/pg_ctl" -D "$folder/data" -m immediate stop >/dev/null 2>&1 || true
  cd /
  rm -rf "$folder"
}
trap at_end EXIT
touch log && [ "$(id -u)" != 0 ] || chown "$user" log
pg initdb --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C
start
while read -r word; do
  case $word in
    stop) stop && echo stopped ;;
    start) start ;;
  esac
done
