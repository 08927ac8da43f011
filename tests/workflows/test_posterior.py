"""--posterior flow on the command line: trained, kept in the model, and part of what is restored where r is the posterior."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryovae.checkpoint import load_model, save_model
from tests.helpers.cli import TINY, TINY_TRAIN, cryovae, refused

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.slow
def test_a_flow_is_trained_kept_and_sampled(small_files: dict[str, Path], tmp_path: Path) -> None:
    run, tilts = tmp_path / "run", ["--tilts", small_files["tilts"]]
    words = [
        small_files["full"],
        *tilts,
        "-o",
        run,
        *TINY_TRAIN,
        "--steps",
        "4",
        "--encoders",
        "1",
        "--set",
        "objective.completion_fraction=0",
    ]
    result = cryovae("train", *words, "--posterior", "flow")
    assert result.returncode == 0, result.stderr
    assert 'posterior = "flow"' in (run / "config.toml").read_text()
    checkpoint = load_model(run)
    assert checkpoint.ladder.config.flow_indices == [1, 2]
    flows = [p for name, p in checkpoint.ladder.named_parameters() if ".flow." in name]
    # The last convolutions of a flow start at zero: the bound has moved them.
    assert all(p.any() for p in flows)
    with torch.no_grad():
        for parameter in flows:
            parameter.mul_(3.0)
    save_model(tmp_path / "other.safetensors", checkpoint)
    means = []
    for model in (run, tmp_path / "other.safetensors"):
        out = tmp_path / f"out_{model.name}"
        result = cryovae("restore", small_files["full"], *tilts, "-o", out, *TINY, "--model", model)
        assert result.returncode == 0, result.stderr
        means.append(mrcfile.read(next(out.glob("*_mean.mrc"))))
    assert np.isfinite(means[0]).all()
    assert not np.allclose(*means, rtol=1e-4)


def test_a_network_without_a_posterior_is_refused_one(small_files: dict[str, Path], tmp_path: Path) -> None:
    words = ["restore", small_files["full"], "--tilts", small_files["tilts"], "-o", tmp_path / "out", "--posterior", "flow"]
    refused(cryovae(*words, "--objective", "deepdewedge"), "posterior flow", "deepdewedge")
    refused(cryovae(*words[:-1], "mixture"), "posterior 'mixture'", "gaussian or flow")
    assert not (tmp_path / "out").exists()
