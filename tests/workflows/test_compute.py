"""Devices by name: those that are here, and one line for all others."""

import subprocess
import sys

import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.workflows.compute import checked_device, device_of
from tests.conftest import write_mrc
from tests.helpers.cli import RANGE, cryovae, refused

UNKNOWN = [
    "gpu",
    "xla",
    "meta",
    "abacus",
    "",
    "CPU",
    "cpu:0",
    "cuda:",
    "cuda:x",
    "cuda:-1",
    "cuda:99999",
    "mps:0",
    "cuda:0,1",
    "hip",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_device_that_cryovae_does_not_run_on_is_refused(name):
    for check in (checked_device, device_of):
        with pytest.raises(InputError, match="expected auto, cpu, cuda, cuda:N or mps"):
            check(name, "--device")


@pytest.mark.parametrize("name", ["mps", "xla", "meta", "cuda:99", "gpu"])
def test_restore_refuses_a_device_that_is_not_there_in_one_line(name, tmp_path, tomogram):
    if name == "mps" and torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    file = write_mrc(tmp_path / "a.mrc", tomogram.density)
    refused(cryovae("restore", file, *RANGE, "-o", tmp_path / "out", "--device", name), f"--device {name} found")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_named_with_how_many_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="torch sees 2 CUDA devices here"):
        device_of("cuda:2")
    assert device_of("cuda:1") == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(InputError, match="no CUDA device here: use device cpu"):
            device_of(name)


def test_a_gpu_of_apple_is_used_where_torch_sees_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_of("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match="device mps found, but torch sees no GPU of Apple here: use device cpu"):
        device_of("mps")


def test_sums_are_in_double_precision_but_on_a_gpu_of_apple():
    types = {name: fourier.sum_dtype(torch.device(name)) for name in ("cpu", "cuda", "mps")}
    assert types == {"cpu": torch.float64, "cuda": torch.float64, "mps": torch.float32}


def test_what_apple_lacks_is_left_to_the_processor():
    """The variable must be set before torch is imported."""
    code = (
        "import os, sys; from cryovae.workflows.compute import ComputeOptions\n"
        "assert 'torch' not in sys.modules\n"
        "try: ComputeOptions('mps').open_device()\n"
        "except ValueError: pass\n"
        "print(os.environ['PYTORCH_ENABLE_MPS_FALLBACK'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
