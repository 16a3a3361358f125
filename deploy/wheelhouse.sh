#!/bin/sh
# Fills a folder with everything that an installation without internet needs: wheels at the exact versions of
# constraints.txt, and their SHA-256.
#
#   deploy/wheelhouse.sh FOLDER                             Synthward and all that it depends on
#   deploy/wheelhouse.sh FOLDER 'synthward[postgres,s3]'    the same with a coordinator's drivers
#
# Run it on a machine with internet, the same processor and the same Python (PYTHON=python3.12 names another). Where to
# fetch from is pip's own setting (PIP_INDEX_URL); torch for processors alone is smaller, from PyTorch's own index.
set -eu

folder=${1:?into which folder? wheelhouse.sh FOLDER [REQUIREMENT...]}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
mkdir -p "$folder"
[ "$#" -gt 0 ] || set -- synthward

# Ours first, from a copy of this checkout without what earlier builds left; then it is found beside the others. Source
# packages become wheels here, so that the other machine needs no compiler.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && cp -R pyproject.toml README.md LICENSE shared site_node coordinator "$copy")
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$copy"
"$python" -m pip wheel --quiet --constraint "$root/constraints.txt" --find-links "$folder" --wheel-dir "$folder" "$@"
cp "$root/constraints.txt" "$folder/"
cd "$folder"
sha256sum -- *.whl constraints.txt > SHA256SUMS
echo "$(ls -- *.whl | wc -l) wheels in $folder; SHA-256 of SHA256SUMS: $(sha256sum SHA256SUMS | cut -d' ' -f1)"
