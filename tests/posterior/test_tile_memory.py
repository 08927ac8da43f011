"""Tiles at once by the memory that is free, and what a box takes of it."""

import subprocess
import sys

import pytest

from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.tile_memory import bytes_of_tile, bytes_of_voxel, fitting
from tests.helpers.cli import ALONE


def test_tiles_at_once_follow_the_memory_that_is_free():
    config = LadderConfig((16, 32), (4, 8), 1)
    one = bytes_of_tile(config, 48)
    assert fitting(config, 48, 8, 3.5 * one) == 3
    assert fitting(config, 48, 8, 0.1 * one) == 1
    assert fitting(config, 48, 8, float("inf")) == 8


# Bytes before, and at most, as a pair of samples of one box is drawn.
BYTES = """
import sys, torch
from cryovae.models.ladder import Ladder
from cryovae.models.ladder_config import LadderConfig
from cryovae.posterior.ladder_boxes import LadderBoxes
from cryovae.tomogram import TiltGeometry
from cryovae.workflows.memory import resident

torch.set_num_threads(1)
ladder = Ladder(LadderConfig(tuple(map(int, sys.argv[1].split(","))), (4, 8, 8), 1))
boxes, tilts = LadderBoxes(ladder, 40, torch.device("cpu")), TiltGeometry.from_range(-60, 60)
boxes.pair(torch.randn(32, 32, 32), tilts, 0)
print(resident())
boxes.pair(torch.randn(64, 96, 80), tilts, 0)
print(resident("VmHWM"))
"""


@pytest.mark.parametrize("widths", [(4, 8, 16), (16, 32, 64), (32, 64, 128)])
def test_a_box_takes_what_is_counted(widths):
    arguments = [sys.executable, "-c", BYTES, ",".join(map(str, widths))]
    ran = subprocess.run(arguments, capture_output=True, text=True, env=ALONE, check=True)
    before, after = (float(line) for line in ran.stdout.split())
    counted = bytes_of_voxel(LadderConfig(widths, (4, 8, 8), 1)) * 64 * 96 * 80
    assert 0.5 * counted < after - before < 1.1 * counted
