#!/usr/bin/env bash
# Sets up .venv and restores the sample: bash pipelines/quickstart.sh. Run again, it goes on, or shows the result that is there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
sample=data_samples/sample
out=restored/quickstart
if [ ! -e "$out/sample_mean.mrc" ] || [ ! -e "$out/sample_std.mrc" ]; then
  begin=--overwrite
  if grep -qs '"status": "stopped"' "$out/run.json" || ls "$out"/*.pt > /dev/null 2>&1; then begin=--resume; fi
  code=0
  .venv/bin/cryovae restore --half1 "${sample}_half1.mrc" --half2 "${sample}_half2.mrc" --tilts "$sample.tlt" \
    --preset quick --from base --config pipelines/quickstart.toml -o "$out" "$begin" || code=$?
  if [ "$code" = 75 ]; then echo "Stopped. bash pipelines/quickstart.sh goes on from there." >&2; fi
  if [ "$code" != 0 ]; then exit "$code"; fi
fi
.venv/bin/cryovae evaluate "$out/sample_mean.mrc" --truth "${sample}_truth.mrc" --tilts "$sample.tlt" --no-shells
echo "Look at $out/preview.png, and open $out/sample_mean.mrc and $out/sample_std.mrc in your viewer."
