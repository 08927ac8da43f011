#!/usr/bin/env bash
# Builds the wheel and tries it in an empty environment outside the clone: bash pipelines/wheel.sh [FOLDER]
#
# pip installs the wheel with the torch that constraints-cpu.txt pins (TORCH_CONSTRAINT chooses another), then cryovae demo restores its
# sample there. FOLDER keeps environment and results; without it they are removed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
clone=$PWD
folder="${1:-}"
if [ -z "$folder" ]; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
"${PYTHON:-python3}" -m venv "$folder/env"
torch=(-c "$clone/constraints-cpu.txt")
if [ -n "${TORCH_CONSTRAINT:-}" ]; then
  echo "$TORCH_CONSTRAINT" > "$folder/torch.txt"
  torch=(-c "$folder/torch.txt")
fi
pip=("$folder/env/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" wheel --no-deps --wheel-dir "$folder" "$clone"
"${pip[@]}" install -c "$clone/constraints.txt" "${torch[@]}" "$folder"/cryovae-*.whl
# Nothing of the clone may be imported.
cd "$folder"
where=$(env/bin/python -c 'import cryovae; print(cryovae.__file__)')
case "$where" in "$folder"/*) ;; *) echo "cryovae was imported from $where, expected the wheel" >&2; exit 1 ;; esac
env/bin/cryovae --version
env/bin/cryovae demo -o demo --overwrite
for file in sample_mean.mrc sample_std.mrc sample_measured.mrc report.html run.json; do
  [ -s "demo/$file" ] || { echo "demo/$file was not written" >&2; exit 1; }
done
ls -l cryovae-*.whl
