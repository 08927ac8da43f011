"""The uncertainty without a window: how much is kept, what fades, how the loop moves, and runs without error bars."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from cryovae.errors import InputError
from cryovae.napari_plugin.layers import layer_for
from cryovae.napari_plugin.uncertainty_calibration import calibration_note
from cryovae.napari_plugin.uncertainty_model import (
    COLOURS,
    FadedDensity,
    SampleLoop,
    colours,
    means_in,
    partner,
    std_of,
    std_statistics,
)

SHAPE = (18, 26, 22)


def layer(density, role, run=None):
    data, made, _ = layer_for(density, role, role, 10.0, run=run)
    return SimpleNamespace(data=data, name=made["name"], metadata=made["metadata"])


def noise(seed, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_share_that_is_kept_is_that_of_the_voxels_under_the_level():
    std = np.abs(noise(0)) + 0.2
    statistics = std_statistics(5 + noise(1), std)
    for level in (0.3, 0.8, 1.5):
        assert statistics.kept(level) == pytest.approx(float((std <= level).mean()), abs=1e-9)
    for share in (0.0, 0.25, 0.6, 1.0):
        assert statistics.kept(statistics.level_keeping(share)) == pytest.approx(share, abs=1e-3)
    assert statistics.of_contrast(1.0) == pytest.approx(1 / 5.15, rel=0.05)
    assert statistics.background == pytest.approx(5, abs=0.05)
    assert "60 % of the voxels kept" in statistics.at(statistics.level_keeping(0.6))


@pytest.mark.parametrize("index", [(3,), (slice(None), 7), (slice(None), slice(None), 9), ()])
def test_what_is_certain_stays_and_what_is_not_becomes_background(index):
    mean, std = noise(2), np.abs(noise(3))
    faded, expected, deviation = FadedDensity(mean, std, 7.0, level=0.5)[index], mean[index], std[index]
    assert np.allclose(faded[deviation <= 0.5], expected[deviation <= 0.5], atol=1e-5)
    assert np.allclose(faded[deviation >= 0.625], 7.0)
    between = (deviation > 0.5) & (deviation < 0.625)
    assert between.any()
    assert np.all((faded - expected)[between] * (7.0 - expected)[between] >= 0)
    assert np.array_equal(FadedDensity(mean, std, 7.0)[index], expected)


def test_the_loop_moves_only_where_the_samples_differ():
    """Samples about a mean, in opposite pairs, that agree in one half of the volume: the frames vary as much as they do."""
    mean, deviations = noise(4), noise(5, (6, *SHAPE))
    deviations[..., :11] = 0
    samples = np.stack([mean + sign * d for d in deviations for sign in (1, -1)])
    loop = SampleLoop(samples, mean, 4)
    assert loop.shape == (48, *SHAPE)
    frames = np.asarray(loop)
    assert np.array_equal(frames[5, 3], loop[5, 3])
    assert np.array_equal(frames[:, 3, :, 15], loop[:, 3, :, 15])
    assert np.allclose(frames[..., :11], mean[..., :11], atol=1e-5)
    assert frames.var(0)[..., 11:].mean() == pytest.approx(samples.var(0)[..., 11:].mean(), rel=0.02)
    assert np.allclose(frames[::4][:6], samples[::2], atol=1e-5)


def test_a_fading_loop_fades_every_frame_alike():
    mean, std, samples = noise(6), np.abs(noise(7)), noise(8, (4, *SHAPE))
    faded = FadedDensity(SampleLoop(samples, mean, 2), std, 0.0, level=0.4)
    frame = faded[3, :, 5]
    assert np.all(frame[std[:, 5] > 0.5] == 0)
    assert np.allclose(frame[std[:, 5] < 0.4], SampleLoop(samples, mean, 2)[3, :, 5][std[:, 5] < 0.4])


def test_std_and_samples_belong_to_the_mean_of_their_run(tmp_path):
    layers = [layer(noise(i), role, run) for i, run in enumerate(("a", "b")) for role in ("input", "mean", "std")]
    layers.append(layer(noise(9, (4, *SHAPE)), "samples", "a"))
    first, second = means_in(layers)
    assert std_of(layers, first) is layers[2]
    assert std_of(layers, second) is layers[5]
    assert partner(layers, first, "samples") is layers[6]
    assert partner(layers, second, "samples") is None


def test_a_run_without_error_bars_is_an_error(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"name": "t", "config": {"objective": {"name": "deepdewedge"}}}))
    mean = layer(noise(0), "mean", tmp_path)
    with pytest.raises(InputError, match="deepdewedge predicts no error bars"):
        std_of([mean], mean)
    with pytest.raises(InputError, match="0 everywhere"):
        std_statistics(noise(0), np.zeros(SHAPE))


def test_colours_go_from_clear_to_red_or_are_opaque():
    clear = colours(COLOURS[0])
    assert clear[0, 3] == 0
    assert clear[-1, 3] == 1
    assert clear[-1, 0] > 0.8 > 0.2 > clear[-1, 1]
    assert all(np.all(colours(name)[:, 3] == 1) and colours(name).shape == (256, 4) for name in COLOURS[1:])


@pytest.mark.parametrize(
    ("held_out", "words", "off"),
    [
        (None, "not checked", True),
        (
            {"rms_over_std_fitted": 1.25, "bins": 70388, "patches": 8},
            "scaled to 70,388 held-out bins of 8 patches.",
            False,
        ),
        ({"rms_over_std_fitted": 1.31}, "too small", True),
        (
            {"rms_over_std_fitted": 0.7, "patches": 1, "trained_on": True},
            "so these numbers are optimistic",
            True,
        ),
        ({"rms_over_std_fitted": 0.95}, "right", False),
    ],
)
def test_the_calibration_of_a_run_in_words(held_out, words, off):
    note = calibration_note({"restoration": {"held_out": held_out}})
    assert words in note.text
    assert note.is_off == off
    assert note.ratio == (held_out or {}).get("rms_over_std_fitted")


@pytest.mark.parametrize(("ratio", "factor"), [(1.25, 1.25), (1.1, None), (0.8, None), (0.7, 0.7), (1.5, 1.5)])
def test_a_factor_is_offered_where_the_words_ask_for_it(ratio, factor):
    note = calibration_note({"restoration": {"held_out": {"rms_over_std_fitted": ratio}}})
    assert note.factor == factor
    assert ("Multiply" in note.text) == (factor is not None and ratio > 1)
