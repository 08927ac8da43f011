"""Pairs of a clean patch and its measurement: y = M (x + n), seeded, the same from any number of processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cryovae import fourier
from cryovae.errors import InputError
from cryovae.physics.observation import ENTRIES, observed
from cryovae.physics.wedge import patch_mask, volume_mask
from cryovae.simulation import patches
from cryovae.simulation.patches import Pairs, PatchConfig, measured, pair_stream, random_tilts, scene_density, scene_pairs
from cryovae.simulation.procedural import procedural_molecule
from cryovae.tomogram import TiltGeometry

# Large molecules, of which few fill a scene.
SMALL = PatchConfig(side=16, kinds=4, first_kind=20, voxel_size=(12.0, 16.0), rotations=2, cuts=3)
GLOBULE = procedural_molecule(0, 14.0)


@pytest.fixture(scope="module")
def densities():
    """Four scenes."""
    return [scene_density(SMALL, number) for number in range(4)]


@pytest.fixture(scope="module")
def exact():
    """The pairs of one scene almost without noise."""
    return scene_pairs(replace(SMALL, snr=(1e6, 1e6), rotations=4, cuts=8), 2)


def _same(one, two):
    return (
        all(
            torch.equal(a, b)
            for a, b in (
                (one.clean, two.clean),
                (one.scenes, two.scenes),
                (one.observation.data, two.observation.data),
                (one.observation.linear, two.observation.linear),
                (one.observation.information, two.observation.information),
            )
        )
        and one.tilts == two.tilts
    )


def test_pairs_have_the_shapes_that_were_asked_for(exact):
    assert exact.clean.shape == exact.observation.data.shape == exact.observation.linear.shape == (32, 16, 16, 16)
    assert exact.observation.information.shape == (32, ENTRIES)
    assert exact.scenes.tolist() == [2] * 32
    part = exact.rows(torch.tensor([3, 9]))
    assert torch.equal(part.clean[1], exact.clean[9])
    assert _same(Pairs.joined([exact.rows(slice(0, 5)), exact.rows(slice(5, 32))]), exact)


def test_a_scene_depends_on_seed_and_number_alone(densities):
    assert torch.equal(scene_density(SMALL, 1), densities[1])
    assert torch.equal(scene_density(replace(SMALL, snr=(1.0, 2.0), cuts=9), 1), densities[1])
    assert not torch.equal(scene_density(replace(SMALL, seed=1), 1), densities[1])
    assert not any(torch.equal(densities[i], densities[j]) for i in range(4) for j in range(i))


def test_a_scene_is_no_cube_and_has_variance_about_one(densities):
    assert {tuple(density.shape) for density in densities} == {(56, 76, 72)}
    deviations = np.array([float(density.std()) for density in densities])
    assert 0.6 < np.median(deviations) < 1.5
    assert deviations.max() < 1.8
    assert max(abs(float(density.mean())) for density in densities) < 0.05


def test_protein_is_dark(monkeypatch):
    """Where the specimen is dense the density is low, under each of the three contrast transfers."""
    scenes = []
    build = patches.build_scene

    def kept(*arguments):
        scenes.append(build(*arguments))
        return scenes[-1]

    monkeypatch.setattr(patches, "build_scene", kept)
    for uncorrected, flipped in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        monkeypatch.setattr(patches, "UNCORRECTED", uncorrected)
        monkeypatch.setattr(patches, "FLIPPED", flipped)
        density = scene_density(SMALL, 3)
        protein = torch.from_numpy(scenes[-1].inside)
        likeness = float(torch.corrcoef(torch.stack((density.flatten(), protein.flatten())))[0, 1])
        assert likeness < (-0.999 if uncorrected == flipped else -0.3)


def test_without_molecules_a_scene_is_almost_empty(monkeypatch):
    monkeypatch.setattr(patches, "SceneConfig", lambda *args, **more: _config(*args, **(more | _NOTHING)))
    density = scene_density(replace(SMALL, crowding=0.0), 0)
    assert torch.isfinite(density).all()
    assert float(density.std()) < 1e-3


_config = patches.SceneConfig
_NOTHING = {"sheets": 0, "vesicles": 0, "filaments": 0}


def test_a_crowding_of_0_leaves_molecules_out(monkeypatch):
    crowdings = []
    monkeypatch.setattr(patches, "procedural_molecule", lambda kind, voxel_size: GLOBULE)

    def counted(specimen, *arguments):
        crowdings.append(specimen.crowding)
        raise InputError("counted")

    monkeypatch.setattr(patches, "build_scene", counted)
    for crowding in (0.0, 0.5):
        for number in range(12):
            with pytest.raises(InputError, match="counted"):
                scene_density(replace(SMALL, crowding=crowding), number)
    assert set(crowdings[:12]) == {0.0}
    assert 0.01 <= max(crowdings[12:]) <= 0.5
    assert len(set(crowdings[12:])) > 6


def test_without_noise_the_data_are_the_density_where_it_was_measured():
    """Of a whole scene: exact in measured bins, nothing in the wedge."""
    rng = torch.Generator().manual_seed(0)
    density, tilts = torch.randn(40, 60, 56, generator=rng), TiltGeometry.from_range(-50, 62)
    variance = torch.full(fourier.radius(density.shape).shape, 1e-6)
    difference = fourier.transform(measured(density, tilts, variance, rng)) - fourier.transform(density)
    mask = volume_mask(density.shape, tilts) * fourier.below_nyquist(density.shape)
    seen, missing = mask > 0.999, mask < 1e-6
    assert difference[seen].abs().max() < 0.02
    data = fourier.transform(measured(density, tilts, variance, rng))
    assert data[missing].abs().max() < 1e-3
    assert seen.float().mean() > 0.4
    assert missing.float().mean() > 0.1


def test_the_noise_of_a_measurement_has_its_spectrum():
    shape, tilts = (40, 60, 56), TiltGeometry.from_range(-60, 60)
    variance = 0.5 + 8 * fourier.radius(shape)
    data = measured(torch.zeros(shape), tilts, variance, torch.Generator().manual_seed(0))
    power = fourier.transform(data).abs().square() / variance
    seen = volume_mask(shape, tilts) * fourier.below_nyquist(shape) > 0.999
    radius = fourier.radius(shape)
    for low, high in ((0.05, 0.2), (0.2, 0.35), (0.35, 0.5)):
        assert float(power[seen & (radius > low) & (radius < high)].mean()) == pytest.approx(1, abs=0.05)


def test_patches_are_cut_from_the_same_place_of_density_and_data(exact):
    """What the wedge leaves of a density is like it; another patch is not."""
    clean, data = (part - part.mean((1, 2, 3), keepdim=True) for part in (exact.clean, exact.observation.data))
    clean, data = clean.flatten(1), data.flatten(1)
    likeness = (clean @ data.T) / (clean.norm(dim=1)[:, None] * data.norm(dim=1)).clamp_min(1e-9)
    own = likeness.diagonal()
    assert own.median() > 0.6
    assert own.median() > likeness.fill_diagonal_(0).abs().median() + 0.4


def test_rotations_of_a_scene_differ(exact):
    information = exact.observation.information
    assert torch.equal(information[0], information[7])
    assert not torch.equal(information[0], information[8])
    # At this noise a measured frequency has log(1 + 10^6), about 14.
    assert 10 < information.max() < 15
    assert information.min() == 0


def test_the_masks_of_pairs_are_those_of_their_tilts(exact):
    masks = exact.rows(slice(5, 12)).masks()
    assert masks.shape == (7, 16, 16, 9)
    assert torch.equal(masks[0], patch_mask((16, 16, 16), exact.tilts[5]))
    assert torch.equal(masks[6], patch_mask((16, 16, 16), exact.tilts[11]))
    assert not torch.equal(masks[0], masks[6])


def test_the_linear_estimate_belongs_to_the_tilts_of_the_pairs():
    """Of white noise in place of data: no pair has power where its own wedge is."""
    rng = np.random.default_rng(0)
    tilts = random_tilts(rng)
    shape = (16, 24, 20)
    seen = observed(torch.randn(3, *shape), tilts, lambda k: torch.ones(k.shape[1:]))
    assert fourier.transform(seen.linear)[:, patch_mask(shape, tilts) < 1e-6].abs().max() < 1e-4


def test_tilts_are_those_of_real_series():
    rng = np.random.default_rng(0)
    ranges = [random_tilts(rng) for _ in range(200)]
    assert all(40 <= -t.angles[0] <= 72 and 40 <= t.angles[-1] <= 72 for t in ranges)
    second = [t.second for t in ranges if t.second is not None]
    assert 8 < len(second) < 35
    assert {t.axis_angle for t in second} == {90.0}


def test_molecules_are_those_of_the_configuration(monkeypatch):
    numbers = []

    def noted(kind, voxel_size):
        numbers.append(kind)
        return GLOBULE

    monkeypatch.setattr(patches, "procedural_molecule", noted)
    for first in (0, 500):
        numbers.clear()
        for number in range(8):
            rng = np.random.default_rng(number)
            patches._species(replace(SMALL, first_kind=first, kinds=7), 10.0, _config((56, 76, 72)), rng)
        assert len(numbers) > 16
        assert min(numbers) == first
        assert first + 4 < max(numbers) < first + 7


def test_half_of_the_species_are_from_the_files(tmp_path, monkeypatch):
    read = []

    def noted(path, voxel_size):
        read.append(path.name)
        return GLOBULE

    monkeypatch.setattr(patches, "read_molecule", noted)
    made = []
    monkeypatch.setattr(patches, "procedural_molecule", lambda kind, voxel: made.append(kind) or GLOBULE)
    config = replace(SMALL, molecules=("/x/a.pdb", "/x/b.mrc"))
    for number in range(40):
        patches._species(config, 14.0, _config((56, 76, 72)), np.random.default_rng(number))
    assert set(read) == {"a.pdb", "b.mrc"}
    assert 0.35 < len(read) / (len(read) + len(made)) < 0.65


def test_molecules_that_are_too_large_for_a_scene_are_left_out(monkeypatch):
    monkeypatch.setattr(patches, "procedural_molecule", lambda kind, voxel: replace(GLOBULE, radius=500.0))
    assert torch.isfinite(scene_density(SMALL, 0)).all()


def _first(config, processes, count, start=0):
    with pair_stream(config, processes, start) as stream:
        return [next(stream) for _ in range(count)]


def test_a_stream_begins_at_any_scene():
    one, two = _first(SMALL, 0, 2, start=4)
    assert one.scenes[0] == 4
    assert _same(one, scene_pairs(SMALL, 4))
    assert _same(two, scene_pairs(SMALL, 5))


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_patches():
    alone, several = _first(SMALL, 0, 5), _first(SMALL, 2, 5)
    assert all(_same(one, two) for one, two in zip(alone, several, strict=True))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"side": 8}, "side 8 found, expected voxels from 16"),
        ({"kinds": 0}, "kinds 0"),
        ({"crowding": 0.9}, "crowding 0.9"),
        ({"voxel_size": (0.0, 4.0)}, "voxel_size"),
        ({"voxel_size": (8.0, 6.0)}, "voxel_size 8 to 6 found"),
        ({"voxel_size": (6.0, 8.0, 9.0)}, "voxel_size with 3 entries"),
        ({"voxel_size": (6.0,)}, "voxel_size with 1 entries"),
        ({"snr": (float("nan"), 1.0)}, "snr"),
        ({"snr": (1.0, float("inf"))}, "snr"),
        ({"snr": (-1.0, 1.0)}, "snr"),
        ({"rotations": 25}, "rotations 25"),
        ({"cuts": 0}, "cuts 0"),
        ({"seed": -1}, "seed -1"),
        ({"molecules": (3,)}, "molecules 3 found"),
    ],
)
def test_impossible_patches_are_refused(bad, words):
    with pytest.raises(InputError, match=words):
        PatchConfig(**bad)
