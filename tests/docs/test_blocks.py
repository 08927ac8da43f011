"""Every command and every Python block of the documentation runs, at small sizes; what cannot run says why, and is counted."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

import cryovae.config
import cryovae.simulation.simulate
from cryovae.cli.app import app
from cryovae.simulation.simulate import SimulationConfig, simulate
from tests.conftest import write_mrc
from tests.docs.blocks import KINDS, PAGES, ROOT, Block, blocks_of
from tests.helpers.cli import cryovae as run_cryovae
from tests.workflows.conftest import save_one_pixel

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.kind is None and block.language in ("sh", "python")]
# How many blocks of a kind may be left out. Raise one only for a block that no test can run.
MOST_LEFT_OUT = {"install": 10, "cluster": 4, "window": 3, "slow": 4, "molecules": 1, "benchmark": 4}
TILT_TABLE = """data_
loop_
_rlnTomoNominalStageTiltAngle #1
_rlnDefocusU #2
_rlnDefocusV #3
_rlnDefocusAngle #4
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name: three tomograms with halves and tilts, in folders too, and one with a run."""
    folder = tmp_path_factory.mktemp("pages")
    for number in (1, 2, 3):
        name = f"ts_{number:02}"
        made = simulate(SimulationConfig(shape=(32, 36, 34), seed=number))
        halves = {"EVN": made.half1.numpy(), "ODD": made.half2.numpy()}
        for kind, density in halves.items():
            (folder / kind).mkdir(exist_ok=True)
            write_mrc(folder / f"{name}_{kind}.mrc", density)
            write_mrc(folder / kind / f"{name}_{kind}.mrc", density)
        write_mrc(folder / f"{name}.mrc", np.mean(list(halves.values()), axis=0))
        (folder / "TLT").mkdir(exist_ok=True)
        for path in (folder / f"{name}.tlt", folder / "TLT" / f"{name}.tlt"):
            path.write_text("".join(f"{angle:.1f}\n" for angle in made.tilts.angles))
        rows = "".join(f"{angle:.1f} 25000 25000 0\n" for angle in made.tilts.angles)
        (folder / f"{name}.star").write_text(TILT_TABLE + rows)
    return folder


@pytest.fixture(scope="module")
def finished(inputs: Path) -> Path:
    """The same folder, with a run in restored/, for pages that begin with one."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.chdir(inputs)
        halves = ("--half1", "ts_01_EVN.mrc", "--half2", "ts_01_ODD.mrc")
        run_cryovae("restore", *halves, "--tilts", "ts_01.tlt", "-o", "restored")
    assert (inputs / "restored" / "ts_01_mean.mrc").exists()
    return inputs


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Presets of a very small model and of two steps, without calibration; a smaller demonstration; no picture is drawn."""
    save_one_pixel(patch)
    presets = cryovae.config.PRESETS
    quick = presets["quick"]
    small = replace(
        quick,
        ladder=replace(quick.ladder, widths=(4, 6, 8), latents=(2, 3, 4)),
        training=replace(quick.training, patch=16, steps=2, validate_every=2, binnings=1),
        restoration=replace(quick.restoration, samples=2, sampler="amortised", halves=False, calibrate=False),
    )
    for name in ("quick", "default"):
        patch.setitem(presets, name, small)
    sample = cryovae.simulation.simulate.SAMPLE
    patch.setattr(cryovae.simulation.simulate, "SAMPLE", replace(sample, shape=(24, 36, 32), seed=1))


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, as the current one; matplotlib draws nothing on a screen."""
    folder = tmp_path / "pages"
    shutil.copytree(finished, folder)
    make_small(monkeypatch)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return folder


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_one_after_the_other(page: Path, workspace: Path) -> None:
    names: dict[str, Any] = {}
    for block in RUN:
        if block.page != page:
            continue
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)
        else:
            for words in block.commands:
                run_command(words, block)


def run_command(words: list[str], block: Block) -> None:
    """Run a command of cryovae. Results of a command before it on the page give way; the output goes into a file after '>'."""
    assert words[0] == "cryovae", f"{block.where}: {words[0]} found, expected a command of cryovae, or a marker <!-- not run: -->"
    *words, target = [*words[: words.index(">")], words[-1]] if ">" in words else [*words, ""]
    if words[1] in ("restore", "train", "mask", "sample", "star", "simulate") and "--resume" not in words:
        words.append("--overwrite")
    if words[1] == "mask":
        # In so small a volume hardly a patch has its middle in half of the voxels.
        words += ["--density-percentage", "100", "--std-percentage", "100"]
    result = run_cryovae(*words[1:])
    assert result.returncode == 0, f"{block.where}: {' '.join(words)}: {result.stderr}"
    if target:
        Path(target).write_text(result.stdout)


def test_blocks_that_are_not_run_say_why_and_are_few() -> None:
    counts = Counter(block.kind for block in BLOCKS if block.kind is not None)
    print(f"{len(RUN)} blocks run, not run: {dict(counts)}")
    assert set(counts) <= set(KINDS)
    assert all(counts[kind] <= most for kind, most in MOST_LEFT_OUT.items()), counts
    assert len(RUN) > sum(counts.values())


def test_every_block_has_a_language() -> None:
    """Text in four spaces would be a block that this test does not see."""
    assert [block.where for block in BLOCKS if block.language not in ("sh", "python", "text")] == []
    commands = ("cryovae ", "python ", "bash ", "pip ", "torchrun ")
    unseen = [
        f"{page.relative_to(ROOT)}: {line}"
        for page in PAGES
        for line in page.read_text().splitlines()
        if line.startswith("    ") and line.strip().startswith(commands)
    ]
    assert unseen == []


def test_the_readme_is_short_and_names_the_two_commands_of_set_up() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 160
    commands = {line.split("#")[0].strip() for line in lines}
    assert {"bash pipelines/quickstart.sh", "bash pipelines/test.sh"} <= commands


def test_links_of_the_readme_and_its_pictures_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()] == []


def test_commands_in_the_text_name_options_that_exist() -> None:
    root = typer.main.get_command(app)
    unknown = []
    for page in PAGES:
        for text in re.findall(r"`(cryovae [^`]+)`", page.read_text()):
            words, command = text.split()[1:], root
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
            if "commands" in dir(command):
                # cryovae batch TABLE is cryovae batch run TABLE.
                command = command.commands.get("run", command)  # type: ignore[attr-defined]
            known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}
            unknown += [f"{page.name}: {text}: {word}" for word in words if word.startswith("--") and word not in known]
    assert unknown == []


def test_every_page_opens_with_what_its_reader_can_do() -> None:
    openings = {page: page.read_text().split("\n\n")[1] for page in PAGES if page.name != "README.md" or page.parent != ROOT}
    assert [str(page.relative_to(ROOT)) for page, text in openings.items() if not text.startswith("After this page ")] == []
