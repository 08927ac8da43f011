#!/usr/bin/env bash
# Makes the two models that come with the package again: bash pipelines/pretrain.sh OUT [FOLDER OR FILES OF MOLECULES ...]
# Seeds, steps and times are in the cards beside the models (cryovae/base/*.md). Hours on two cores. Run again, it goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?give a folder for the models}
shift
molecules=()
for path in "$@"; do molecules+=(--molecule "$path"); done
[ -e "$out/ladder.safetensors" ] || .venv/bin/python -m cryovae pretrain --network ladder -o "$out" --resume "${molecules[@]}"
[ -e "$out/generator.safetensors" ] || .venv/bin/python -m cryovae pretrain --network generator -o "$out" --resume "${molecules[@]}"
