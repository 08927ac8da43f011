"""Sources of a voxel size that disagree are named, and a size that is probably unknown is said, and refused where it matters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cryovae.checks.preflight import preflight
from cryovae.errors import InputError
from cryovae.findings import Severity
from cryovae.io.files import write_volume
from cryovae.io.load import load_tomogram
from cryovae.io.star.loading import load_entry
from cryovae.io.star.tomograms import Entry, read_tomograms
from cryovae.io.voxel_sizes import disagreements_of
from cryovae.tomogram import Optics, TiltGeometry
from tests.helpers.cli import RANGE, TINY, cryovae, refused

TILTS = TiltGeometry.from_range(-60, 60)
DENSITY = np.random.default_rng(0).normal(size=(16, 20, 18)).astype(np.float32)


def _volume(tmp_path, size):
    path = tmp_path / "ts.mrc"
    write_volume(path, DENSITY, None, size, "")
    return path


def _entry(path, size=None, **more):
    return Entry("ts", 1, path, None, TILTS, size, **more)


def test_sources_that_agree_within_a_percent_are_not_mentioned():
    assert disagreements_of("ts", 13.48, 13.5, None, pixel=1.685) == ()
    assert disagreements_of("ts", 0.0, 10.0, None) == ()
    assert disagreements_of("ts", 10.0, None, None) == ()
    assert disagreements_of("ts", 10.0, None, 10.05) == ()


def test_header_and_table_that_disagree_are_named_with_what_was_taken(tmp_path):
    tomogram = load_entry(_entry(_volume(tmp_path, 13.48), 1.737))
    assert tomogram.voxel_size == 1.737
    (finding,) = tomogram.findings
    assert finding.severity is Severity.WARNING
    for word in ("1.737 angstrom by the table", "13.48 of the header", "1.737 was taken", "pass --voxel-size 13.48"):
        assert word in finding.words


def test_an_option_over_other_sources_is_a_note(tmp_path):
    for table in (None, 1.737):
        tomogram = load_entry(_entry(_volume(tmp_path, 13.48), table), 10.0)
        assert tomogram.voxel_size == 10.0
        assert [one.severity for one in tomogram.findings] == [Severity.NOTE]
        assert "13.48 of the header" in tomogram.findings[0].words


def test_voxels_smaller_than_the_pixels_of_the_images_are_named(tmp_path):
    (finding,) = load_entry(_entry(_volume(tmp_path, 1.35), pixel_size=2.7)).findings
    assert finding.severity is Severity.WARNING
    assert "2.7 by the file of the tilts" in finding.words
    assert load_entry(_entry(_volume(tmp_path, 10.8), pixel_size=2.7)).findings == ()


def test_a_table_of_relion_is_compared_by_pixel_size_and_binning(tmp_path):
    path = _volume(tmp_path, 10.0)
    head = "data_\nloop_\n_rlnTomoName\n_rlnTomoReconstructedTomogram\n_rlnTomoTiltSeriesPixelSize\n_rlnTomoTomogramBinning\n"
    for binning, count in ((4, 0), (8, 1)):
        (tmp_path / "t.star").write_text(f"{head}ts {path.name} 2.5 {binning}\n")
        (entry,) = read_tomograms(tmp_path / "t.star", TILTS).entries
        assert len(load_entry(entry).findings) == count


def test_exactly_one_angstrom_in_the_header_is_doubted_and_refused_with_contrast_transfer(tmp_path):
    path = _volume(tmp_path, 1.0)
    tomogram = load_entry(_entry(path))
    assert [one.severity for one in preflight(tomogram).findings] == [Severity.WARNING]
    with pytest.raises(InputError, match="pass --voxel-size"):
        preflight(replace(tomogram, optics=Optics((30000.0,))))
    assert load_tomogram(path, None, TILTS, 1.0).findings == ()
    assert load_entry(_entry(path), 1.0).findings == ()
    # The header's 1 is no source that the table could contradict.
    assert [one.severity for one in load_entry(_entry(path, 10.0)).findings] == [Severity.NOTE]
    refused(
        cryovae("restore", path, "-o", tmp_path / "out", *RANGE, *TINY, "--defocus", 2.5), "exactly 1 angstrom", "--voxel-size"
    )
