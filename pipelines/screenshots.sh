#!/usr/bin/env bash
# Pictures of each widget of the napari plugin, in docs/pictures: bash pipelines/screenshots.sh [RUN ...]
#
# RUN are run folders with their models and samples. Without any, the sample in data_samples is restored into restored/sample
# (minutes) and, if CRYOVAE_SHARED_DATA is set, its microtubule into restored/microtubule (a quarter of an hour). OUT is another
# folder for the pictures.
set -euo pipefail
EXTRAS="${EXTRAS:-napari}"
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
source pipelines/window.sh

restore() { # restore NAME RESULT OPTIONS: into restored/NAME, unless its last sample is there
  [ -e "restored/$1/$2_sample_7.mrc" ] ||
    .venv/bin/cryovae restore "${@:3}" --samples 8 --samples-out 8 -o "restored/$1" --overwrite
  runs+=("restored/$1")
}

runs=("$@")
if [ "${#runs[@]}" = 0 ]; then
  sample=data_samples/sample
  restore sample sample --half1 "${sample}_half1.mrc" --half2 "${sample}_half2.mrc" --tilts "$sample.tlt" \
    --preset quick --steps 240 --config pipelines/quickstart.toml --set restoration.halves=true
  if [ -n "${CRYOVAE_SHARED_DATA:-}" ]; then
    restore microtubule cylindra_13pf_MT "$CRYOVAE_SHARED_DATA/real/cylindra_13pf_MT.mrc" --tilt-range -64 56 \
      --preset quick --set training.patch=32 --set training.steps=280 --set training.validate_every=70
  fi
fi

screen=()
if [ -z "${DISPLAY:-}" ]; then
  screen=(xvfb-run -a -s "-screen 0 1400x1000x24 +extension GLX" env LIBGL_ALWAYS_SOFTWARE=1)
fi
for run in "${runs[@]}"; do
  "${screen[@]}" .venv/bin/python pipelines/screenshots.py "$run" --out "${OUT:-docs/pictures}"
done
