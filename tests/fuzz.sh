#!/usr/bin/env bash
# Fuzzes what comes from outside: each target of controller/fuzz, or those that are named, is fed for FUZZ_SECONDS with inputs that reach
# ever more of the code. Inputs that reached something new are kept in target/fuzz/corpus for the next time; one that breaks what has
# to hold ends this, and stays in target/fuzz/artifacts.
#
# libFuzzer comes with its crate, and the compiler that builds everything else instruments the code: this needs a C++ compiler, and
# neither cargo-fuzz nor a nightly compiler. Address checks need those, and find nothing where `unsafe` is forbidden.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds=${FUZZ_SECONDS:-60}
place=$PWD/target/fuzz
command -v c++ >/dev/null || {
  echo "libFuzzer is built from C++, and there is no c++ here: install g++ or clang, then run this again." >&2
  exit 1
}

# With --target, so that programs which run while it is built are not instrumented.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
RUSTFLAGS="${coverage[*]}" cargo build --quiet --release --manifest-path controller/fuzz/Cargo.toml --target "$host" --target-dir "$place"

if [ $# = 0 ]; then
  for file in controller/fuzz/fuzz_targets/*.rs; do set -- "$@" "$(basename "$file" .rs)"; done
fi
for target in "$@"; do
  mkdir -p "$place/corpus/$target" "$place/artifacts"
  printf '==> %s, %s s\n' "$target" "$seconds"
  if ! "$place/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$place/artifacts/$target-" "$place/corpus/$target" "controller/fuzz/corpus/$target" 2>"$place/$target.log"; then
    tail -n 40 "$place/$target.log" >&2
    echo "$target: what has to hold does not; copy the input from $place/artifacts to controller/fuzz/corpus/$target: tests run over it." >&2
    exit 1
  fi
  grep -E 'number_of_executed_units|new_units_added' "$place/$target.log"
done
