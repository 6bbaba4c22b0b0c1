#!/usr/bin/env bash
# Runs every check and test of the project, stage by stage, and prints what each took. What a stage needs is installed first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export RUST_BACKTRACE=${RUST_BACKTRACE:-0} CARGO_TERM_PROGRESS_WHEN=${CARGO_TERM_PROGRESS_WHEN:-never}
times=()
started=$SECONDS

stage() {
  local name=$1 from=$SECONDS
  shift
  printf '\n==> %s\n' "$name"
  if ! "$@"; then
    printf '\n==> failed: %s (%d s)\n' "$name" $((SECONDS - from)) >&2
    exit 1
  fi
  times+=("$(printf '%6d s  %s' $((SECONDS - from)) "$name")")
}

# Chaos has a lab of its own, and what it has to say is said at once when it is done: the end belongs to the stories, which fail last.
stories() {
  local chaos rc=0
  chaos_alone &
  chaos=$!
  cargo test --workspace --test e2e --locked || rc=$?
  if ! wait "$chaos"; then
    printf '\nThe rounds of chaos failed: see above, and target/chaos.log.\n' >&2
    rc=1
  fi
  return "$rc"
}

chaos_alone() {
  local rc=0
  cargo test --workspace --test e2e --locked -- --ignored chaos >target/chaos.log 2>&1 || rc=$?
  cat target/chaos.log
  return "$rc"
}

stage "tools of the lab" tests/lab/setup/all.sh
stage "formatting" cargo fmt --all -- --check
stage "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
stage "bans, licences and sources" tests/lab/setup/deny.sh
stage "alerts and their routes" tests/monitoring.sh
stage "findings in the charts" tests/lab/setup/checkov.sh
# All of these ask for the whole workspace: with other packages or targets selected, dependencies get other features and are built again.
stage "programs and tests" tests/images/build.sh
# All but e2e: it is told apart by its second character.
# Many wait for a program or a deadline.
stage "unit and integration tests" env RUST_TEST_THREADS=$(($(nproc) * 3)) cargo test --workspace --lib --bins --example sim --test '?[!2]*' --locked
stage "doc tests" cargo test --workspace --doc --locked --quiet
stage "end-to-end tests, and 20 rounds of chaos beside them" stories

printf '\n==> time by stage\n'
printf '%s\n' "${times[@]}"
printf '%6d s  in all\n' $((SECONDS - started))
printf '\nLeft out, as each needs a program from outside: real proxies (LINKERD_PROXY=… make test-linkerd), the real Argo CD (ARGOCD_BIN=… make test-argocd).\n'
