"""cryovae restore."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, cast

import typer

from cryovae.cli.geometry import (
    Adjusted,
    AxisAngle,
    Cone,
    Handedness,
    Mask,
    Pretilt,
    Thickness,
    Tilts2,
    Unrotated,
    XTilt,
    adjusted_table,
    masks_given,
    with_second_axes,
)
from cryovae.cli.optics import (
    Aberration,
    AmplitudeContrast,
    BFactor,
    Ctf,
    Defocus,
    Flipped,
    PhaseShift,
    Voltage,
    optics_given,
    table_has_optics,
)
from cryovae.cli.options import (
    Batch,
    Beta,
    Config,
    Device,
    Encoders,
    Format,
    LearningRate,
    Live,
    Memory,
    Objective,
    Output,
    Overwrite,
    Patch,
    Posterior,
    Preset,
    Refine,
    Resume,
    Sampler,
    Seed,
    Settings,
    Steps,
    Temperature,
    Threads,
    TiltRange,
    Tilts,
    VoxelSize,
    device_of,
    is_table,
    range_of_table,
    settings_of,
    tilt_geometries,
)
from cryovae.errors import InputError
from cryovae.workflows.memory import budget_of


def restore(
    tomogram: Annotated[Path | None, typer.Argument(help="One tomogram, MRC or OME-Zarr, or a .star table of many.")] = None,
    half1: Annotated[Path | None, typer.Option(help="First half tomogram.")] = None,
    half2: Annotated[Path | None, typer.Option(help="Second half tomogram.")] = None,
    tilts: Tilts = None,
    tilt_range: TiltRange = None,
    tilts2: Tilts2 = None,
    axis_angle: AxisAngle = None,
    pretilt: Pretilt = None,
    x_tilt: XTilt = None,
    thickness: Thickness = None,
    cone: Cone = False,
    handedness: Handedness = 1,
    mask: Mask = None,
    unrotated: Unrotated = None,
    output: Output = Path("restored"),
    model: Annotated[
        Path | None, typer.Option(help="A trained model, or the folder of its run; without it, train first.")
    ] = None,
    preset: Preset = None,
    config: Config = None,
    settings: Settings = None,
    samples: Annotated[int | None, typer.Option(help="Posterior samples behind mean and standard deviation, even.")] = None,
    samples_out: Annotated[int | None, typer.Option(help="How many samples to write.")] = None,
    raw: Annotated[bool | None, typer.Option("--raw", help="The model's answer, without the data-consistent step.")] = None,
    refine: Refine = None,
    sampler: Sampler = None,
    temperature: Temperature = None,
    steps: Steps = None,
    patch: Patch = None,
    batch: Batch = None,
    learning_rate: LearningRate = None,
    beta: Beta = None,
    encoders: Encoders = None,
    objective: Objective = None,
    posterior: Posterior = None,
    voxel_size: VoxelSize = None,
    ctf: Ctf = None,
    defocus: Defocus = None,
    voltage: Voltage = None,
    cs: Aberration = None,
    amplitude_contrast: AmplitudeContrast = None,
    phase_shift: PhaseShift = None,
    b_factor: BFactor = None,
    phase_flipped: Flipped = None,
    output_format: Format = "mrc",
    seed: Seed = None,
    device: Device = "auto",
    threads: Threads = None,
    memory: Memory = None,
    live: Live = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Restore a tomogram, from one volume or from two halves: posterior mean, standard deviation, samples.

    A table of tomograms (.star of IsoNet, RELION or cryovae star import) is restored row by row with one model."""
    if (half1 is None) != (half2 is None):
        raise InputError("one half found, expected both: pass --half1 and --half2, or one tomogram")
    if tomogram is not None and half1 is not None:
        raise InputError("a tomogram and halves were given, expected one or the other: their mean is used when halves are given")
    halves = None if half1 is None or half2 is None else (half1, half2)
    adjusted = Adjusted(axis_angle, pretilt, x_tilt, thickness, handedness, cone)
    if tomogram is not None and is_table(tomogram):
        geometry = range_of_table(tilts, tilt_range)
    else:
        geometry = with_second_axes(tilt_geometries(tilts, tilt_range, 1), tilts2, adjusted)[0]
    budget = budget_of(memory)
    chosen_device = device_of(device, threads)
    run = settings_of(
        preset, config, settings, chosen_device,
        restoration__samples=samples, restoration__samples_out=samples_out, restoration__raw=raw, restoration__seed=seed,
        restoration__refine=refine, restoration__sampler=sampler, restoration__temperature=temperature,
        training__steps=steps, training__patch=patch, training__batch=batch, training__learning_rate=learning_rate,
        training__seed=seed, objective__beta=beta, objective__encoders=encoders,
        objective__name=objective, ladder__posterior=posterior,
    )  # fmt: skip

    from cryovae.io.files import suffix_of

    suffix = suffix_of(output_format)
    if tomogram is not None and is_table(tomogram):
        from cryovae.workflows.table import open_table, restore_table

        table = open_table(tomogram, geometry, voxel_size, table_has_optics(ctf, defocus, tomogram))
        table = adjusted_table(table, adjusted, tilts2, mask, unrotated)
        limit = None if memory is None else budget
        written = restore_table(table, output, model, run, chosen_device, resume, overwrite, voxel_size, suffix, limit)
        print(f"restored: {written}")
        return
    assert geometry is not None

    from cryovae.checkpoint import load_model, load_network, objective_of
    from cryovae.config import as_plain, override, save_config
    from cryovae.io.load import load_tomogram
    from cryovae.io.star.loading import Tomograms
    from cryovae.workflows.geometry_record import recorded
    from cryovae.workflows.orientation import LOOKED_AT, is_unrotated
    from cryovae.workflows.regression import regress_in, train_networks_in
    from cryovae.workflows.restore import check_room, inputs_of, restore_in
    from cryovae.workflows.restore_streamed import is_streamed, restore_streamed_in
    from cryovae.workflows.run_folder import RunFolder, noted
    from cryovae.workflows.train import train_in
    from cryovae.workflows.train_crops import within

    optics = optics_given(
        ctf, defocus, 1, voltage=voltage, spherical_aberration=cs, amplitude_contrast=amplitude_contrast,
        phase_shift=phase_shift, b_factor=b_factor, flipped=phase_flipped,
    )[0]  # fmt: skip
    if model is not None:
        run = override(run, {"objective.name": objective_of(model)})
    deterministic = not run.objective.variational
    trained = None if model is None or deterministic else load_model(model)
    network = load_network(model) if model is not None and deterministic else None
    first = tomogram or half1
    streamed = first is not None and is_streamed(
        first, halves is not None, trained, run, chosen_device, budget, memory is not None, suffix
    )
    lying = is_unrotated(tomogram or cast(Path, half1), unrotated, LOOKED_AT if streamed else None)
    loaded = load_tomogram(tomogram, halves, geometry, voxel_size, lying, masks_given(mask, 1)[0], streamed)
    loaded = replace(loaded, optics=optics)
    folder = RunFolder(output, loaded.name, suffix)
    check_room(folder, loaded, run, overwrite or resume)
    inputs = inputs_of(tomogram, halves, tilts[0] if tilts else None)
    folder.begin("restore", inputs, as_plain(run), run.training.seed)
    folder.tell(loaded.notes)
    folder.save(tilts=recorded(geometry), unrotated=loaded.unrotated, model=None if model is None else str(model))
    folder.save(optics=None if optics is None else asdict(optics))
    if not geometry.has_wedge:
        print(
            f"{loaded.name}: tilts {geometry.lowest:g} to {geometry.highest:g} leave no wedge, so it is denoised only",
            file=sys.stderr,
        )
    save_config(folder.path("config.toml"), run)
    with noted(folder):
        if deterministic:
            network = network or train_networks_in(folder, [loaded], run, chosen_device, resume)
            regress_in(folder, loaded, network, run, chosen_device)
        else:
            if trained is None:
                alone = Tomograms([loaded.name], lambda index, mapped: loaded)
                trained_on = within(alone, [cast(Path, first)], run, chosen_device, budget) if streamed else [loaded]
                trained = train_in(folder, trained_on, run, chosen_device, resume, live)
            if streamed:
                restore_streamed_in(folder, loaded, trained, run, chosen_device, budget, resume)
            else:
                restore_in(folder, loaded, trained, run, chosen_device)
    print(f"restored: {folder.result('mean')}")
