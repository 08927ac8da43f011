"""Prepares a tomogram for training: standardises it, estimates its noise, and chooses held-out patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cryovae import fourier
from cryovae.data.held_out_boxes import Box, box_of, held_out_boxes, mark, moved, overlapping
from cryovae.data.measurement import MaskingConfig, Orientations
from cryovae.data.region import Region, region_of, spacing
from cryovae.data.validation_split import held_out_patches, never_drawn, shown_patches
from cryovae.physics.ctf import inverse_transfer
from cryovae.physics.noise import NoiseSpectrum, estimate_noise
from cryovae.physics.wedge import volume_mask
from cryovae.tiling.grid import Position, cut, inside
from cryovae.tomogram import TiltGeometry, Tomogram, Transfer

# One of ONE_OF tomograms is held out completely, and about MOST_APART in total.
ONE_OF, MOST_APART = 12, 16


@dataclass
class PreparedTomogram:
    """One tomogram in training.

    Attributes:
        name: name of the tomogram.
        tilts: its tilt geometry, with the contrast transfer if it is known.
        density: (grey - mean) / scale, less the contrast transfer if it is known, (z, y, x), mean 0, standard deviation 1.
        filled: the same with its missing wedge refilled, or ``density`` itself, (z, y, x).
        mean: grey value that was subtracted.
        scale: grey values by which it was divided.
        noise: noise spectrum of ``density``.
        orientations: rotated masks and noise spectra.
        held_out: first voxels of the patches held out of training.
        region: the voxels that are no fill and inside the mask, or None for all.
        inside: first voxels of patches in the region, (positions, 3), or None for all patches of the volume, or of its box.
        spacing: distance of the positions of ``inside``, in voxels.
        share: share of the batches, relative to those of the other tomograms.
        binned: whether this is the tomogram at a smaller size.
        unscored_boxes: boxes that are in inputs but are not scored: held out at another binning of the same tomogram.
        held_out_boxes: further boxes that are not scored: held out of this tomogram, for the calibration.
        excluded_patches: patches that are not drawn either, and are validated elsewhere or not at all; may lie partly outside.
    """

    name: str
    tilts: TiltGeometry
    density: Tensor
    filled: Tensor
    mean: float
    scale: float
    noise: NoiseSpectrum
    orientations: Orientations
    held_out: tuple[Position, ...]
    region: Region | None = None
    inside: Tensor | None = None
    spacing: int = 1
    share: float = 1.0
    binned: bool = False
    unscored_boxes: tuple[Box, ...] = ()
    held_out_boxes: tuple[Box, ...] = ()
    excluded_patches: tuple[Position, ...] = ()

    def patches_to_score(self, side: int) -> tuple[Position, ...]:
        """The held-out patches; of a volume too small for any, informative patches that training has seen."""
        return (
            self.held_out or held_out_patches(self.density, side, self.region) or shown_patches(self.density, side, self.region)
        )

    def ready(self, half: np.ndarray) -> Tensor:
        """A half (z, y, x) of the same tomogram, prepared as ``density`` was."""
        return divided((torch.from_numpy(np.asarray(half, dtype=np.float32)) - self.mean) / self.scale, self.tilts)

    def boxes(self, side: int) -> tuple[Box, ...]:
        """Boxes of held-out patches of ``side`` voxels, and all boxes that are not scored."""
        held = tuple(box_of(position, side) for position in self.held_out + self.excluded_patches)
        return held + self.unscored_boxes + self.held_out_boxes

    def valid(self, position: Position, side: int) -> Tensor:
        """1 for the voxels of a patch that lie in the volume and are no fill, else 0: (side, side, side)."""
        if self.region is not None and self.region.fill is not None:
            return self.region.inside(position, side)
        return inside(position, side, tuple(self.density.shape))

    def scored(self, position: Position, side: int) -> Tensor | None:
        """0 for the voxels of a patch that lie in boxes that are not scored, else 1: (side, side, side); None if it has none."""
        boxes = overlapping(self.unscored_boxes + self.held_out_boxes, position, [start + side for start in position])
        if not boxes:
            return None
        mask = torch.ones(side, side, side)
        mark(mask, [moved(box, position) for box in boxes], 0.0)
        return mask

    @property
    def held_out_count(self) -> int:
        """Number of held-out patches and boxes."""
        return len(self.held_out) + len(self.held_out_boxes)

    def held_out_labels(self, patch: int, box: tuple[slice, slice, slice] | None = None) -> Tensor:
        """Labels of the voxels of a box, or of all: (z, y, x) int16.

        The number of the held-out patch of side ``patch`` or held-out box from 1, 0 elsewhere, and -1 for voxels of no region.
        """
        z, y, x = self.density.shape
        box = box or (slice(0, z), slice(0, y), slice(0, x))
        start = [side.start for side in box]
        labels = torch.zeros([side.stop - side.start for side in box], dtype=torch.int16)
        held = [box_of(position, patch) for position in self.held_out] + list(self.held_out_boxes)
        for number, one in enumerate(held, 1):
            mark(labels, [moved(one, start)], number)
        if self.region is not None:
            labels[torch.from_numpy(~self.region.valid(box[0])[:, box[1], box[2]])] = -1
        return labels

    def is_allowed(self, position: Position, side: int) -> bool:
        """Whether training may draw a patch: it has no fill, or little, and shares no voxel with a held-out patch."""
        return not self.overlaps_held_out(position, side) and (self.region is None or self.region.allows(position, side))

    def has_partial_patches(self, side: int) -> bool:
        """Whether voxels of some patches lie outside the volume or are fill."""
        is_thin = any(size < side for size in self.density.shape)
        return is_thin or (self.region is not None and self.region.has_partial_patches(side))

    def overlaps_held_out(self, position: Position, side: int) -> bool:
        """Whether a patch shares a voxel with a held-out one."""
        return any(
            all(abs(a - b) < side for a, b in zip(position, box, strict=True)) for box in self.held_out + self.excluded_patches
        )

    def validated_by(self, most: int) -> PreparedTomogram:
        """The same with ``most`` held-out patches at the most; the others are still not drawn."""
        return replace(self, held_out=self.held_out[:most], excluded_patches=self.excluded_patches + self.held_out[most:])


def prepare(
    tomogram: Tomogram,
    side: int,
    seed: int = 0,
    held_out: bool = True,
    masking: MaskingConfig | None = None,
    device: torch.device | None = None,
) -> PreparedTomogram:
    """Standardise a tomogram, estimate its noise, and choose the held-out patches, if there is room.

    Args:
        tomogram: the tomogram.
        side: side of a patch, in voxels.
        seed: seed of the noise estimate.
        held_out: whether patches are held out.
        masking: masking settings; None scores without a model variance.
        device: device of the Fourier transforms of the full volume; results lie in main memory.

    Returns:
        The prepared tomogram.
    """
    masking = masking or MaskingConfig(tolerance=0.0)
    region = region_of(tomogram)
    grey = tomogram.grey or (None if region is None else region.statistics(tomogram.density))
    density, mean, scale = standardise(tomogram.density, grey)
    halves = tomogram.halves
    scaled = None if halves is None else ((halves[0] - mean) / scale, (halves[1] - mean) / scale)
    window = None if region is None else region.window()
    places = None if region is None else region.random_positions
    noise = estimate_noise(
        density.numpy(), scaled, tomogram.tilts, seed=seed, device=device, window=window, places=places
    ).simplified(masking.noise)
    tilts = tomogram.tilts
    if tomogram.optics is not None:
        tilts = replace(tilts, transfer=Transfer(tomogram.optics, tomogram.voxel_size))
        density = divided(density, tilts)
        gained = float(density.std()) if region is None else region.statistics(density.numpy())[1]
        density, scale = density / gained, scale * gained
        noise = replace(noise.scaled(gained**-2), transfer=tilts.transfer)
    model_variance = None
    if masking.tolerance:
        seen = density if window is None else density * window
        model_variance = noise.signal(seen, volume_mask(density.shape, tilts)).scaled(masking.tolerance)
    orientations = Orientations(tilts, noise, side, rotations=masking.rotations, hide=masking.hide, model_variance=model_variance)
    inside = None if region is None or region.is_box else region.positions(side)
    held, excluded_patches, boxes = _left_out(tomogram, density, side, region) if held_out else ((), (), ())
    about = tomogram.name, tilts, density, density, mean, scale, noise, orientations, held, region, inside
    step = 1 if region is None else spacing(side)
    return PreparedTomogram(*about, step, held_out_boxes=boxes, excluded_patches=excluded_patches)


def _left_out(
    tomogram: Tomogram, density: Tensor, side: int, region: Region | None
) -> tuple[tuple[Position, ...], tuple[Position, ...], tuple[Box, ...]]:
    """Held-out patches, patches that are not drawn either, and held-out boxes."""
    held, excluded_patches = never_drawn(density, side, region, tomogram.validation_patches or ())
    boxes = tomogram.validation_boxes
    return held, excluded_patches, held_out_boxes(density, side, region, held + excluded_patches) if boxes is None else boxes


@dataclass
class PreparedHalves:
    """A prepared tomogram with its halves, standardised as it is.

    Attributes:
        prepared: the tomogram.
        halves: the two halves, (z, y, x) each; one volume stands for both where there are none.
        filled: the same with their missing wedges refilled, or ``halves`` itself.
    """

    prepared: PreparedTomogram
    halves: tuple[Tensor, Tensor]
    filled: tuple[Tensor, Tensor]

    @property
    def single(self) -> bool:
        """Whether one volume stands for both halves."""
        return self.halves[0] is self.halves[1]


def prepare_halves(tomogram: Tomogram, prepared: PreparedTomogram) -> PreparedHalves:
    """Standardise the halves of a tomogram; with one volume for both, its noise is not hidden from a network."""
    halves = prepared.density, prepared.density
    if tomogram.halves is not None:
        halves = prepared.ready(tomogram.halves[0]), prepared.ready(tomogram.halves[1])
    return PreparedHalves(prepared, halves, halves)


def hold_out_whole(prepared_tomograms: Sequence[PreparedTomogram], side: int) -> list[PreparedTomogram]:
    """Hold out complete tomograms where none has room for held-out patches, as with many subtomograms.

    One of ONE_OF is held out, about MOST_APART in total. It is never drawn, and is scored at its centre. Fewer than ONE_OF
    tomograms are returned unchanged.
    """
    if len(prepared_tomograms) < ONE_OF or any(s.held_out for s in prepared_tomograms):
        return list(prepared_tomograms)
    tomograms = list(prepared_tomograms)
    step = max(ONE_OF, -(-len(tomograms) // MOST_APART))
    for i in range(step // 2, len(tomograms), step):
        z, y, x = (max(size - side, 0) // 2 for size in tomograms[i].density.shape)
        tomograms[i] = replace(tomograms[i], share=0.0, held_out=((z, y, x),))
    return tomograms


def divided(density: Tensor, tilts: TiltGeometry) -> Tensor:
    """Divide a density (z, y, x) by the contrast transfer of its tilts, with bins near its zeros set to 0; the mean is kept."""
    if tilts.transfer is None:
        return density
    inverse = inverse_transfer(fourier.frequencies(density.shape), tilts.transfer)
    inverse[0, 0, 0] = 1.0
    return fourier.filtered(density, inverse)


def standardise(density: np.ndarray, grey: tuple[float, float] | None = None) -> tuple[Tensor, float, float]:
    """Standardise to mean 0 and standard deviation 1, as float32; returns the density, and its mean and scale or ``grey``."""
    values = torch.from_numpy(np.array(density, dtype=np.float32))
    mean, scale = grey or (float(values.mean(dtype=torch.float64)), float(values.std()))
    return (values - mean) / scale, mean, scale


def drawn_position(prepared: PreparedTomogram, side: int, generator: torch.Generator) -> Position:
    """A patch position, uniform over those that share no voxel with a held-out patch, and whose middle is specimen if known."""
    if prepared.inside is not None:
        return _drawn_inside(prepared, prepared.inside, side, generator)
    first, last = [0, 0, 0], [max(size - side, 0) for size in prepared.density.shape]
    if prepared.region is not None:
        first, last = prepared.region.corners(side)
    while True:
        z, y, x = (a + int(torch.randint(0, b - a + 1, (1,), generator=generator)) for a, b in zip(first, last, strict=True))
        if not prepared.overlaps_held_out((z, y, x), side):
            return z, y, x


def _drawn_inside(prepared: PreparedTomogram, inside: Tensor, side: int, generator: torch.Generator) -> Position:
    """One of the positions inside, moved by up to half their spacing."""
    last = torch.tensor([max(size - side, 0) for size in prepared.density.shape])
    half = prepared.spacing // 2
    while True:
        start = inside[int(torch.randint(0, len(inside), (1,), generator=generator))]
        moved = start + torch.randint(-half, half + 1, (3,), generator=generator)
        z, y, x = torch.minimum(moved.clamp_min(0), last).tolist()
        if prepared.is_allowed((z, y, x), side):
            return z, y, x


def held_out_rotations(orientations: Orientations) -> list[int]:
    """Indices of the rotations used in validation: every third, so that each kind of rotation is included."""
    return list(range(0, len(orientations.rotations), 3))


def patch_pair(prepared: PreparedTomogram, position: Position, side: int) -> tuple[Tensor, Tensor]:
    """The patch as measured and as refilled, (side, side, side) each."""
    data = cut(prepared.density, position, side)
    return data, data if prepared.filled is prepared.density else cut(prepared.filled, position, side)
