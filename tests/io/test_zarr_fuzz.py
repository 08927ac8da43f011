"""OME-Zarr with damaged metadata is read, or refused in one line."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("zarr", reason="the extra zarr is not installed")

from cryovae.errors import InputError
from cryovae.io.files import write_volume
from cryovae.io.load import load_tomogram
from cryovae.tomogram import TiltGeometry
from tests.io.fuzz import TEXT, limited, mangle

DENSITY = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
# Words of JSON that turn numbers into other things, and sizes into large ones.
JSON = [*TEXT, b"null", b"true", b"[]", b"{}", b"1e9", b"999999", b"-1", b"0", b'""', b'"z"', b"float64", b"bytes", b"zstd"]


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zarr")
    write_volume(folder / "good.zarr", DENSITY, None, 10.0, "good")
    load_tomogram(folder / "good.zarr", None, TiltGeometry.from_range(-60, 60))
    return folder


def refusal_of(path):
    """The words with which a group is refused, '' if it is read; anything else fails."""
    try:
        with limited():
            load_tomogram(path, None, TiltGeometry.from_range(-60, 60), 10.0)
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(("zarr.json", "0/zarr.json", "0/c/0/0/0")))
def test_damaged_groups_are_read_or_refused(groups, data, name):
    good, bad = groups / "good.zarr", groups / "bad.zarr"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(good, bad)
    (bad / name).write_bytes(mangle((good / name).read_bytes(), data.draw, JSON, head=4096))
    refusal = refusal_of(bad)
    assert "\n" not in refusal
    assert not refusal or "bad.zarr" in refusal


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (b'"shape":[5,6,7]', b'"shape":[5,6000000,7]', "expected a volume"),
        (b'"shape":[5,6,7]', b'"shape":[5000,60000,70000]', "holds 1 of the"),
        (b'"chunk_shape":[5,6,7]', b'"chunk_shape":[5000,6000,7000]', "cannot be read"),
    ],
)
def test_sizes_that_the_files_cannot_hold_cost_no_memory(groups, before, after, words):
    bad = groups / "large.zarr"
    shutil.rmtree(bad, ignore_errors=True)
    shutil.copytree(groups / "good.zarr", bad)
    metadata = json.dumps(json.loads((bad / "0/zarr.json").read_text()), separators=(",", ":")).encode()
    assert before in metadata
    (bad / "0/zarr.json").write_bytes(metadata.replace(before, after))
    assert words in refusal_of(bad)
