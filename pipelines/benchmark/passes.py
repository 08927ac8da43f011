"""What each pass of a restoration adds to its quality, and what it costs, with one trained model: a table.

    cryovae restore --half1 A_half1.mrc --half2 A_half2.mrc --tilts A.tlt --preset quick -o RUN
    python pipelines/benchmark/passes.py dense_a RUN

Rows differ from the first as their names say. Processor seconds are those of the restoration alone, without reading and report.
Quality is that of error_bars.py, 0.05 to 0.3 cycles per voxel: correlation of the mean with the truth, and rms error over the
standard deviation of the samples.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from data import load
from error_bars import SHELLS, shell_scores

from cryovae.calibration.hidden_bins import EMPTY, FULL
from cryovae.checkpoint import Checkpoint, load_model
from cryovae.config import RunConfig, read_config
from cryovae.generator_file import load_generator
from cryovae.models.generator import Generator
from cryovae.physics.wedge import volume_mask
from cryovae.restoration.config import RestoreConfig
from cryovae.restoration.restorer import Restorer

CHEAPEST = "encoder: 2 samples, no halves, no fit"
ROWS: dict[str, dict[str, Any]] = {
    "normal": {},
    "steps of a sample: 1": {"flow_steps": 1},
    "steps of a sample: 4": {"flow_steps": 4},
    "samples: 4": {"samples": 4},
    "samples: 16": {"samples": 16},
    "without halves": {"halves": False},
    "without a fit to hidden bins": {"calibrate": False},
    "encoder: 8 samples": {"sampler": "amortised"},
    "encoder: 2 samples": {"sampler": "amortised", "samples": 2},
    CHEAPEST: {"sampler": "amortised", "samples": 2, "halves": False, "calibrate": False},
}


def restorer(model: Checkpoint, flow: Generator, config: RestoreConfig, row: str) -> Restorer:
    """What restores as a row says, all samples kept."""
    settings = {"samples": config.samples} | ROWS[row]
    how = replace(config, **settings, samples_out=settings["samples"])
    return Restorer(model.ladder, model.patch, how, torch.device("cpu"), flow=flow)


def main() -> None:
    """Restore by each row, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="as in run.py")
    parser.add_argument("run", type=Path, help="folder of a run with model.safetensors and sampler.safetensors")
    parser.add_argument("--simulated", type=Path, help="folder of volumes that are not in CRYOVAE_SHARED_DATA")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="some of the rows")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    subject = load(options.data, options.simulated)
    model, flow = load_model(options.run / "model.safetensors"), load_generator(options.run / "sampler.safetensors").generator
    config = read_config(options.run / "config.toml", RunConfig()).restoration
    mask = volume_mask(subject.truth.shape, subject.tomogram.tilts)
    print("| row | processor s | wedge | measured | error over std, wedge | measured |")
    print("| --- | --- | --- | --- | --- | --- |")
    # The first restoration of a process also pays for what torch sets up once.
    restorer(model, flow, config, CHEAPEST)(subject.tomogram)
    for name in options.rows:
        restore = restorer(model, flow, config, name)
        began = time.process_time()
        restoration = restore(subject.tomogram)
        seconds = time.process_time() - began
        wedge, measured = (
            shell_scores(restoration.mean, restoration.samples, torch.as_tensor(subject.truth), bins, *SHELLS[0])
            for bins in (mask < EMPTY, mask > FULL)
        )
        figures = f"{wedge['correlation']:.3f} | {measured['correlation']:.3f}"
        bars = f"{wedge['error_over_std']:.2f} | {measured['error_over_std']:.2f}"
        print(f"| {name} | {seconds:.0f} | {figures} | {bars} |", flush=True)


if __name__ == "__main__":
    main()
