"""No check says anything on good tomograms with their true tilts: a false alarm is as bad as a silent fault."""

import pytest

from cryovae.checks.preflight import check_tomogram
from cryovae.io.load import load_tomogram
from cryovae.io.tilts import read_tilts
from cryovae.tomogram import TiltGeometry

GOOD = {
    "dense_a": (("bench/dense_a_half1.mrc", "bench/dense_a_half2.mrc"), "bench/dense_a.tlt"),
    "dense_b": (("bench/dense_b_half1.mrc", "bench/dense_b_half2.mrc"), "bench/dense_b.tlt"),
    "HAADF": (("real/HAADF_fbp_pm76_even.mrc", "real/HAADF_fbp_pm76_odd.mrc"), (-76, 76)),
    "HAADF in one": (("real/HAADF_fbp_pm76_full.mrc",), (-76, 76)),
    "microtubule": (("real/cylindra_13pf_MT.mrc",), (-64, 56)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GOOD)
def test_a_good_tomogram_gives_no_finding(name, shared):
    files, known = GOOD[name]
    tilts = TiltGeometry.from_range(*known) if isinstance(known, tuple) else read_tilts(shared / known)
    paths = [shared / file for file in files]
    full, halves = (paths[0], None) if len(paths) == 1 else (None, (paths[0], paths[1]))
    assert [finding.line for finding in check_tomogram(load_tomogram(full, halves, tilts))] == []
