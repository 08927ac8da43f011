#!/usr/bin/env bash
# Restores benchmark volumes with the quick preset as a user would, and scores them; pipelines/benchmark compares with others.
#
#   CRYOVAE_SHARED_DATA=/data bash pipelines/benchmark_quality.sh OUT [dense_b dense_a_single dense_a real noise]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
data="${CRYOVAE_SHARED_DATA:?name the folder of benchmark data}"
out="${1:?name a folder for the results}"
shift
cryovae=.venv/bin/cryovae

halves() { # name
  $cryovae restore --half1 "$data/bench/$1_half1.mrc" --half2 "$data/bench/$1_half2.mrc" --tilts "$data/bench/$1.tlt" \
    --preset quick -o "$out/$1" --overwrite
  $cryovae evaluate "$out/$1/$1_mean.mrc" --truth "$data/bench/$1_truth.mrc" --tilts "$data/bench/$1.tlt"
}

for what in ${*:-dense_b dense_a_single dense_a real noise}; do
  began=$SECONDS
  case "$what" in
    dense_a | dense_b) halves "$what" ;;
    dense_a_single)
      mkdir -p "$out"
      .venv/bin/python -c "
import sys, mrcfile
a, b, out = sys.argv[1:]
with mrcfile.new(out, mrcfile.read(a) + mrcfile.read(b), overwrite=True) as mrc:
    mrc.set_volume(); mrc.voxel_size = 10
" "$data/bench/dense_a_half1.mrc" "$data/bench/dense_a_half2.mrc" "$out/dense_a_sum.mrc"
      $cryovae restore "$out/dense_a_sum.mrc" --tilts "$data/bench/dense_a.tlt" --preset quick -o "$out/dense_a_single" --overwrite
      $cryovae evaluate "$out/dense_a_single/dense_a_sum_mean.mrc" --truth "$data/bench/dense_a_truth.mrc" \
        --tilts "$data/bench/dense_a.tlt"
      ;;
    real)
      $cryovae info "$data/real/cylindra_13pf_MT.mrc" --tilt-range -64 56
      $cryovae restore "$data/real/cylindra_13pf_MT.mrc" --tilt-range -64 56 --preset quick -o "$out/cylindra" --overwrite
      $cryovae restore --half1 "$data/real/HAADF_fbp_pm76_even.mrc" --half2 "$data/real/HAADF_fbp_pm76_odd.mrc" \
        --tilt-range -76 76 --preset quick -o "$out/haadf" --overwrite
      ;;
    noise)
      .venv/bin/python -c "
import sys, mrcfile, numpy as np
rng = np.random.default_rng(0)
for half in '12':
    with mrcfile.new(f'{sys.argv[1]}/noise_half{half}.mrc', rng.normal(size=(64, 96, 80)).astype('f4'), overwrite=True) as mrc:
        mrc.set_volume(); mrc.voxel_size = 10
" "$out"
      $cryovae restore --half1 "$out/noise_half1.mrc" --half2 "$out/noise_half2.mrc" --tilt-range -60 60 --preset quick \
        -o "$out/noise" --overwrite
      grep -o '"wedge_power_of_input": [0-9.e-]*' "$out/noise/run.json"
      ;;
  esac
  echo "$what: $((SECONDS - began)) s"
done
