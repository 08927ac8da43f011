#!/usr/bin/env bash
# All that is measured on a GPU, in one command; what is done is passed over when it is run again.
#
#     CRYOVAE_SHARED_DATA=DATA bash pipelines/benchmark/gpu.sh OUT [MINUTES]
#
# OUT       folder of the logs and results
# MINUTES   of busy GPU for each training of the comparison, 3 without it; 0.01 tries the script
#
# 1. tests of the GPU  2. speed of the presets, as it is and compiled  3. 1024 x 1024 x 256 voxels with 16 samples
# 4. this model and the U-Nets by the losses of DeepDeWedge and IsoNet2 on four data sets
# SIDE=64 in the environment makes the volume of step 3 that small, DEVICE=cpu tries the script without a GPU.
set -euo pipefail
out="$(mkdir -p "$1" && cd "$1" && pwd)"
minutes="${2:-3}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python="${PYTHON:-.venv/bin/python}"
device="${DEVICE:-cuda}"
side="${SIDE:-1024}"
samples="${SAMPLES:-16}"

step() { # step NAME COMMAND...: runs a command once, with its log in OUT/NAME.log
  local name="$1"
  shift
  if [ -f "$out/$name.done" ]; then
    echo "$name: done before"
    return
  fi
  echo "$name: $*"
  if "$@" > "$out/$name.log" 2>&1; then
    touch "$out/$name.done"
    tail -n 15 "$out/$name.log"
  else
    echo "$name failed: $out/$name.log" >&2
    tail -n 5 "$out/$name.log" >&2
  fi
}

step tests "$python" -m pytest -q tests/test_cuda.py
for preset in quick default; do
  step "speed_$preset" "$python" pipelines/benchmark/speed.py --device "$device" --preset "$preset" --rounds 20 --sizes
  step "compiled_$preset" "$python" pipelines/benchmark/speed.py --device "$device" --preset "$preset" --compare compiled
done
step large "$python" pipelines/benchmark/speed.py --device "$device" --preset default --samples "$samples" \
  --shape "$((side / 4))" "$side" "$side"
step simulated bash pipelines/benchmark/simulated.sh "$out/sim"
step rows "$python" pipelines/benchmark/run.py --out "$out/rows" --simulated "$out/sim" --data dense_a dense_b sim_c sim_d \
  --rows vae unet_deepdewedge unet_isonet2_mw clipping --minutes "$minutes" --jobs "${JOBS:-8}"
