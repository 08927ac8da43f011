"""Held-out boxes: enough of them, on specimen, apart from held-out patches; training does not score them."""

from dataclasses import replace

import numpy as np
import pytest

from cryovae.data.binning import halved
from cryovae.data.crops import Parts
from cryovae.data.held_out_boxes import LARGEST_SHARE, LEAST, SHARE, held_out_boxes
from cryovae.data.measurement import MaskingConfig
from cryovae.data.prepare import prepare
from cryovae.data.region import Region
from cryovae.data.sampling import draw, step_generator

PATCH = 40


def _density(shape, empty=0):
    """Blobs, but for the first ``empty`` planes along x, which hold weak noise."""
    rng = np.random.default_rng(0)
    density = np.repeat(np.repeat(np.repeat(rng.normal(size=[-(-n // 8) for n in shape]), 8, 0), 8, 1), 8, 2)
    density = density[: shape[0], : shape[1], : shape[2]].astype(np.float32)
    density[:, :, :empty] = 0.01 * rng.normal(size=density[:, :, :empty].shape)
    return density


def _voxels(boxes):
    return sum(int(np.prod([b - a for a, b in box])) for box in boxes)


@pytest.mark.parametrize("shape", [(96, 128, 112), (200, 180, 90), (48, 64, 56), (24, 200, 200)])
def test_there_are_at_least_eight_or_five_percent(shape):
    boxes = held_out_boxes(_density(shape), PATCH, None, ())
    assert len(boxes) >= LEAST
    share = _voxels(boxes) / np.prod(shape)
    assert share >= SHARE or len(boxes) == LEAST
    assert share <= LARGEST_SHARE + 0.01
    assert all(0 <= a < b <= n for box in boxes for (a, b), n in zip(box, shape, strict=True))


def test_no_two_overlap_and_none_overlaps_a_held_out_patch():
    shape, held_out = (96, 128, 112), ((30, 40, 50), (0, 0, 0))
    marked = np.zeros(shape, int)
    for box in held_out_boxes(_density(shape), PATCH, None, held_out):
        marked[tuple(slice(a, b) for a, b in box)] += 1
    for z, y, x in held_out:
        marked[z : z + PATCH, y : y + PATCH, x : x + PATCH] += 1
    assert marked.max() == 1


def test_they_show_specimen():
    boxes = held_out_boxes(_density((96, 128, 112), empty=60), PATCH, None, ())
    assert all(box[2][0] >= 40 for box in boxes)


def test_they_lie_in_the_mask():
    mask = np.zeros((96, 128, 112), bool)
    mask[:, :80] = True
    region = Region((96, 128, 112), None, mask)
    boxes = held_out_boxes(_density((96, 128, 112)), PATCH, region, ())
    assert len(boxes) >= LEAST
    assert all((box[1][0] + box[1][1]) // 2 < 80 for box in boxes)


def test_a_volume_without_room_has_none():
    assert held_out_boxes(_density((24, 20, 24)), PATCH, None, ()) == ()


def test_training_scores_no_voxel_of_a_box(tomogram):
    prepared = prepare(tomogram, 16)
    assert prepared.held_out_boxes
    box = prepared.held_out_boxes[0]
    at = tuple(max(a - 4, 0) for a, _ in box)
    scored = prepared.scored(at, 16)
    inside = scored[tuple(slice(a - p, min(b - p, 16)) for (a, b), p in zip(box, at, strict=True))]
    assert float(inside.max()) == 0
    assert float(scored.max()) == 1
    assert not prepared.has_partial_patches(16)
    batch = draw([prepared], 16, 8, MaskingConfig(), step_generator(0, 0))
    assert batch.scored is not None
    assert batch.scored.shape == batch.data.shape


def test_labels_number_the_regions_and_leave_out_what_has_no_data(tomogram):
    mask = np.ones(tomogram.shape, bool)
    mask[:, :3] = False
    prepared = prepare(replace(tomogram, mask=mask), 16)
    labels = prepared.held_out_labels(16)
    assert labels.max() == prepared.held_out_count
    assert bool((labels[:, :3] == -1).all())
    (z, _), (y, _), (x, _) = prepared.held_out_boxes[-1]
    assert labels[z, max(y, 3), x] == prepared.held_out_count
    part = prepared.held_out_labels(16, (slice(4, 20), slice(8, 30), slice(2, 18)))
    assert bool((part == labels[4:20, 8:30, 2:18]).all())


def test_a_crop_holds_out_the_boxes_of_its_tomogram(tomogram):
    """In the same voxels, however the tomogram is cut."""
    every = prepare(tomogram, 16).held_out_labels(16)
    parts = Parts(tomogram, 12_000, 16, 4)
    for number, box in enumerate(parts.boxes):
        part = prepare(parts[number], 16)
        expected = np.zeros(part.density.shape, bool)
        marked = every[box].numpy()
        of_boxes = marked > len(prepare(tomogram, 16).held_out)
        for one in part.held_out_boxes:
            expected[tuple(slice(max(a, 0), max(b, 0)) for a, b in one)] = True
        assert np.array_equal(expected, of_boxes)
        assert halved(parts[number]).validation_boxes is None
