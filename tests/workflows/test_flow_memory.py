"""What the flow takes in memory, and what happens if there is less."""

import logging
import subprocess
import sys

import pytest
import torch

from cryovae.config import preset
from cryovae.workflows.streaming import box_bytes, flow_bytes, streams_flow
from tests.helpers.cli import ALONE

CPU = torch.device("cpu")
# Bytes before, and at most, as the flow is applied to one box of 128 voxels.
BYTES = """
import torch
from cryovae.generator_file import load_base
from cryovae.physics.observation import RandomNoise
from cryovae.posterior.codes import fast_convolutions
from cryovae.posterior.langevin import refined
from cryovae.posterior.latent_slope import LatentSlope
from cryovae.posterior.patch_sampler import PatchSampler
from cryovae.posterior.volume_data import VolumeData
from cryovae.posterior.volume_sampler import VolumeSampler
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.memory import resident

torch.set_num_threads(1)
sampler = PatchSampler(load_base().generator.taking_estimates())
data = torch.randn(128, 128, 128)
print(resident())
with fast_convolutions():
    noise = RandomNoise(1.0, 0.0, 0.0, 0.0)
    volume = VolumeSampler(sampler, VolumeData(data, TiltGeometry.from_range(-60, 60), noise, 1.0), 64, 128, data)
    list(volume.slabs(volume.latents(0, 0, 1)))
    refined(LatentSlope(volume), volume.predicted())
print(resident("VmHWM"))
"""


def test_a_flow_that_does_not_fit_is_not_streamed_and_the_log_says_why(caplog):
    config, shape = preset("quick"), (256, 512, 512)
    needed = flow_bytes(config.ladder, shape, config, CPU, fitted=False)
    assert streams_flow(shape, None, config, CPU, int(needed) + 10**9)
    with caplog.at_level(logging.INFO, "cryovae"):
        assert not streams_flow(shape, None, config, CPU, int(needed))
    assert "samples are those of the encoder" in caplog.text


def test_a_box_of_the_flow_takes_no_more_for_a_larger_tomogram():
    assert box_bytes((64, 96, 96), CPU) < box_bytes((208, 208, 208), CPU) == box_bytes((512, 1024, 1024), CPU)
    assert box_bytes((512, 1024, 1024), torch.device("cuda")) == 0.0


@pytest.mark.slow
def test_a_box_of_the_flow_takes_what_is_counted():
    ran = subprocess.run([sys.executable, "-c", BYTES], capture_output=True, text=True, env=ALONE, check=True)
    before, after = (float(line) for line in ran.stdout.split())
    counted = box_bytes((128, 128, 128), CPU)
    assert 0.4 * counted < after - before < 1.2 * counted
