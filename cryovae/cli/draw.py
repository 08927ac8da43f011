"""Does what ``cryovae sample`` is asked for: patches of the own model of a run, or of a generative model. Imports torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from cryovae.cli.sample_request import BASE, SampleRequest
from cryovae.io.star.loading import load_entry
from cryovae.io.star.tomograms import Entry
from cryovae.tomogram import Tomogram
from cryovae.units import check_voxel_size
from cryovae.workflows.draw_base import DrawSettings, draw_at, draw_prior, opened_model, walk_between, walk_prior
from cryovae.workflows.orientation import is_unrotated
from cryovae.workflows.requests import RestoreRequest
from cryovae.workflows.run import entry_of
from cryovae.workflows.run_inputs import checked_tomogram, checked_tomogram_of, voxel_size_in
from cryovae.workflows.sample import sample_run, walk_run

# Voxel size in the headers of draws of the prior, in angstrom.
VOXEL_SIZE = 10.0


def draw(request: SampleRequest, device: torch.device) -> Path:
    """Draw the patches that a request names, and write them; returns the sheet. InputError if it is impossible."""
    request.check()
    if request.origin != BASE:
        return _draw_ladder(request, device)
    # What is cheap to refuse comes first.
    entry = _entry_of(request) if request.has_tomogram else None
    voxel_size = 0.0 if request.places else _voxel_size_of(request)
    model = opened_model(request.model, request.side)
    settings = DrawSettings(request.folder, request.count, request.steps, request.seed, request.results.overwrite, device)
    places = request.places
    if places:
        tomogram = _tomogram_of(request, entry)
        if request.at is not None:
            return draw_at(model, tomogram, places[0], settings)
        return walk_between(model, tomogram, (places[0], places[1]), settings)
    prior = walk_prior if request.walk else draw_prior
    return prior(model, settings, voxel_size, request.temperature)


def _draw_ladder(request: SampleRequest, device: torch.device) -> Path:
    """Patches from the own model of a run."""
    assert request.run is not None
    size, overwrite, force = request.geometry.voxel_size, request.results.overwrite, request.results.force
    if request.between is not None:
        return walk_run(request.run, request.folder, request.places, request.steps, size, device, overwrite, force)
    return sample_run(
        request.run,
        request.folder,
        request.origin,
        request.count,
        request.temperature,
        request.seed,
        size,
        device,
        overwrite,
        force,
    )


def _entry_of(request: SampleRequest) -> Entry:
    """The files of the tomogram that is named, and how they lie."""
    entry = entry_of(
        RestoreRequest(request.tomogram_or_run, request.half1, request.half2, geometry=request.geometry, optics=request.optics)
    )
    return replace(entry, unrotated=is_unrotated(entry.files[0], request.geometry.unrotated))


def _tomogram_of(request: SampleRequest, entry: Entry | None) -> Tomogram:
    """The tomogram of some files, or that of the run, after the checks of the input."""
    size, force = request.geometry.voxel_size, request.results.force
    if entry is not None:
        return checked_tomogram(load_entry(entry, size), force)
    assert request.run is not None
    return checked_tomogram_of(request.run, size, force)


def _voxel_size_of(request: SampleRequest) -> float:
    """Voxel size in angstrom of draws of the prior: that of the option, or of the run, or a typical one."""
    if request.run is not None:
        return voxel_size_in(request.run, request.geometry.voxel_size)
    size = VOXEL_SIZE if request.geometry.voxel_size is None else request.geometry.voxel_size
    check_voxel_size(size, "--voxel-size")
    return size
