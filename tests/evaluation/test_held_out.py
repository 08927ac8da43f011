"""Statistics on held-out bins as a record holds them: resolution of the signal, and the ceiling that noise sets."""

import numpy as np
import pytest

from cryovae.evaluation.held_out import HeldOut

FREQUENCY = (np.arange(1, 21) / 40).tolist()
CEILING = np.linspace(0.9, 0.3, 20)
SIGNAL = np.linspace(1.0, 0.2, 20)


def statistics(**changed):
    """Of a prediction whose correlation with the signal is SIGNAL."""
    curves = {"frequency": FREQUENCY, "fsc": (CEILING * SIGNAL).tolist(), "ceiling": CEILING.tolist()}
    return HeldOut.from_record({"restoration": {"held_out": curves | changed}})


def test_the_resolution_is_that_of_the_signal_without_the_noise():
    expected = 10 / np.interp(-0.5, -SIGNAL, FREQUENCY)
    assert statistics().resolution(10.0) == pytest.approx(expected)
    # An empty shell is skipped.
    empty = statistics(fsc=[None, *(CEILING * SIGNAL)[1:]], ceiling=[None, *CEILING[1:]])
    assert empty.resolution(10.0) == pytest.approx(expected)


def test_shells_without_signal_do_not_count():
    assert statistics(ceiling=[0.9] * 5 + [0.01] * 15, fsc=[0.9] * 20).resolution(10.0) == pytest.approx(10 / FREQUENCY[4])
    assert statistics(ceiling=[0.01] * 20).resolution(10.0) is None


def test_curves_of_other_lengths_are_not_used():
    assert statistics(fsc=[0.5]).resolution(10.0) is None
    assert statistics(ceiling=[]).highest_correlation is None


def test_the_ceiling_of_a_band_is_that_of_signal_and_noise():
    """SNR 3 in all shells: a correlation of sqrt(3 / 4) at best."""
    assert statistics(ceiling=[0.75**0.5] * 20).highest_correlation == pytest.approx(0.75**0.5)
    assert statistics(correlation_ceiling=0.71).highest_correlation == 0.71
