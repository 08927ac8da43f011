#!/usr/bin/env bash
# The simulated tomograms of the benchmark, from the molecules in phantom/10A of CRYOVAE_SHARED_DATA, into a folder:
#   sim_c  a crowded cytosol with vesicles, +-60 degrees, SNR 0.3
#   sim_d  a lamella with filaments, few molecules and gold, -50 to 60 degrees, SNR 0.15
#   sim_e  a cytosol of four molecules that the network of the package has not seen, -55 to 55 degrees, SNR 0.2
# Usage: CRYOVAE_SHARED_DATA=data bash pipelines/benchmark/simulated.sh OUT [more options of cryovae simulate, e.g. --overwrite]
set -euo pipefail

if [[ $# -lt 1 || -z "${CRYOVAE_SHARED_DATA:-}" ]]; then
    echo "usage: CRYOVAE_SHARED_DATA=data bash pipelines/benchmark/simulated.sh OUT" >&2
    exit 2
fi
out=$1
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
cryovae=$here/.venv/bin/cryovae
[[ -x $cryovae ]] || cryovae=cryovae

molecules=()
for map in "$CRYOVAE_SHARED_DATA"/phantom/10A/*.mrc; do
    molecules+=(--molecule "$map")
done

"$cryovae" simulate -o "$out" --name sim_c --seed 21 --shape 96 120 112 --voxel-size 10 \
    --tilt-range -60 60 --tilt-step 3 --snr 0.3 --crowding 0.35 --sheets 1 --vesicles 4 --filaments 0 --beads 0 \
    "${molecules[@]}" "$@"
"$cryovae" simulate -o "$out" --name sim_d --seed 22 --shape 80 128 112 --voxel-size 10 \
    --tilt-range -50 60 --tilt-step 3 --snr 0.15 --crowding 0.2 --sheets 0 --vesicles 1 --filaments 6 --beads 2 --lamella 600 \
    "${molecules[@]}" "$@"

unseen=()
for name in 1bxn 4cr2 6qzp 8tux; do
    unseen+=(--molecule "$CRYOVAE_SHARED_DATA/phantom/10A/$name.mrc")
done
"$cryovae" simulate -o "$out" --name sim_e --seed 23 --shape 88 112 120 --voxel-size 10 \
    --tilt-range -55 55 --tilt-step 3 --snr 0.2 --crowding 0.3 --sheets 1 --vesicles 2 --filaments 2 --beads 0 \
    "${unseen[@]}" "$@"
