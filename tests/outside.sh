# shellcheck shell=bash
# Sourced by what runs stories over a program from outside.

# is_given VARIABLE WHAT PROGRAM: whether the variable names such a program, whose whole path is in it then. Says so where it names none,
# and ends the script where what it names is no program.
is_given() {
  local variable=$1 what=$2 program=$3 path=${!1:-}
  if [ -z "$path" ]; then
    echo "$variable is not set, so no real $what runs: the stories run over the lab's stand-in for it."
    return 1
  fi
  if [ ! -f "$path" ] || [ ! -x "$path" ]; then
    echo "$variable=$path is no program; set it to the path of $program, or to nothing to run over the stand-in." >&2
    exit 1
  fi
  printf -v "$variable" %s "$(readlink -f "$path")"
  export "${variable?}"
}
