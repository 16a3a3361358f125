#!/bin/sh
# Fills a new folder with everything that an installation without internet needs: Synthward's wheel, and those of all
# that it depends on, at the exact versions of constraints.txt and with the digests of deploy/digests/.
#
#   deploy/wheelhouse.sh FOLDER                             Synthward and all that it depends on
#   deploy/wheelhouse.sh FOLDER 'synthward[postgres,s3]'    the same with a coordinator's drivers
#
# Run it on a machine with internet, the same processor and the same Python (PYTHON=python3.12 names another). Where to
# fetch from is pip's own setting (PIP_INDEX_URL); torch for processors alone is smaller, from PyTorch's own index.
set -eu

folder=${1:?into which folder? wheelhouse.sh FOLDER [REQUIREMENT...]}
shift
[ "$#" -gt 0 ] || set -- synthward
root=$(cd "$(dirname "$0")/.." && pwd)
digests=$root/deploy/digests
mkdir -p "$folder"
if [ -n "$(ls -A "$folder")" ]; then
  echo "wheelhouse.sh: $folder is not empty; name a new one" >&2
  exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/tools"

pip() {
  "$work/tools/bin/python" -m pip "$@" --quiet --disable-pip-version-check
}

# For what was fetched: no index, and no folder that pip's settings name.
pip_here() {
  PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' pip "$@" --no-index --find-links "$work/fetched"
}

# pip refuses an archive that is not on the lists. Nothing comes as source, so that no package's code runs here.
case "$*" in
  *\[*) extras=$digests/extras.txt ;;
  *) extras=/dev/null ;;
esac
pip download --only-binary :all: --no-deps --require-hashes --dest "$work/fetched" \
  --requirement "$digests/synthward.txt" --requirement "$extras"

# torch's digest depends on the index, so its version alone is checked, and what CUDA it brings is not on the lists
# either. What else comes with it is left behind: it is here already, and was checked.
pip download --only-binary :all: --constraint "$root/constraints.txt" --dest "$work/torch" torch torchvision
for kind in torch torchvision triton 'nvidia_*' 'cuda_*'; do
  find "$work/torch" -name "$kind-*.whl" -exec mv {} "$work/fetched/" \;
done

# Ours, from a copy of this checkout without what earlier builds left.
mkdir "$work/ours"
(cd "$root" && cp -R pyproject.toml README.md LICENSE shared site_node coordinator "$work/ours")
pip_here install --upgrade setuptools
pip_here wheel --no-deps --no-build-isolation --wheel-dir "$work/fetched" "$work/ours"

# Of all that was fetched, what is needed. The other machine's pip installs what requirements.txt names by digest.
pip_here wheel --constraint "$root/constraints.txt" --wheel-dir "$folder" "$@"
cd "$folder"
for wheel in *.whl; do
  echo "$wheel $(sha256sum "$wheel")"
done | sed -E 's/^([^-]+)-([^-]+)-\S+ ([0-9a-f]{64}) .*/\1==\2 --hash=sha256:\3/' > requirements.txt
sha256sum -- *.whl requirements.txt > SHA256SUMS
echo "$(ls -- *.whl | wc -l) wheels in $folder; SHA-256 of SHA256SUMS: $(sha256sum SHA256SUMS | cut -d' ' -f1)"
