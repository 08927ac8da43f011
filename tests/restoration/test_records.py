"""Tables survive a journal in JSON bit by bit."""

import json

import torch

from cryovae.calibration.variance import SHELLS, VarianceCalibration
from cryovae.physics.noise import SpectralTable
from cryovae.restoration.data_consistency import SpectrumStats
from cryovae.restoration.records import from_plain, to_plain


def test_a_calibration_comes_out_of_json_as_it_went_in():
    tables = torch.randn(6, SHELLS)
    gain = SpectralTable(torch.randn(24, 4, 4))
    calibration = VarianceCalibration(tables[0], tables[1], tables[2], 0.1, tables[3], tables[4], tables[5], gain)
    again = from_plain(json.loads(json.dumps(to_plain(calibration))), VarianceCalibration)
    assert torch.equal(again.noise_gain.table, gain.table)
    assert again.depth_slope == 0.1
    for name in ("wedge_scale", "sample_variance", "wedge_amplitude", "reference_depth", "data_weight", "error"):
        assert torch.equal(getattr(again, name), getattr(calibration, name))


def test_missing_tables_stay_missing():
    spectrum = SpectralTable(torch.randn(24, 4, 4))
    stats = from_plain(to_plain(SpectrumStats(spectrum, spectrum, torch.randn(SHELLS))), SpectrumStats)
    assert stats.shell_noise is None
    assert torch.equal(stats.amplitude.table, spectrum.table)
