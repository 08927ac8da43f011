"""What is released says the same everywhere: versions, requirements, and the steps of the containers."""

from __future__ import annotations

import re
import tomllib

import yaml

import cryovae
from tests.docs.blocks import ROOT

# Names of packages on conda-forge that differ from those on PyPI.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def recipe() -> str:
    return (ROOT / "recipe" / "meta.yaml").read_text()


def test_recipe_and_citation_have_the_version_of_the_package() -> None:
    assert re.search(r'set version = "(.+)"', recipe())[1] == cryovae.__version__  # type: ignore[index]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == cryovae.__version__


def test_the_recipe_requires_what_the_package_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pairs = [re.fullmatch(r"([\w-]+)(>=.+)", text).groups() for text in project["dependencies"]]  # type: ignore[union-attr]
    expected = {f"{CONDA.get(name, name)} {bound}" for name, bound in pairs}
    run = recipe().split("  run:\n")[1].split("\ntest:")[0]
    listed = {line.strip().removeprefix("- ") for line in run.splitlines() if line.strip().startswith("- ")}
    assert listed - {"python >={{ python_min }}"} == expected
    lowest = yaml.safe_load((ROOT / "recipe" / "conda_build_config.yaml").read_text())["python_min"]
    assert f">={lowest[0]}" == project["requires-python"]


def test_containers_do_the_steps_of_the_page() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    assert 'pip install "torch==2.8.*"' in page
    for name in ("Dockerfile", "cryovae.def"):
        text = (ROOT / "recipe" / name).read_text()
        assert '"torch==2.8.*"' in text
        assert "cryovae --version" in text
        assert f"recipe/{name}" in page
        copied = re.findall(r"(?:^COPY |^    )(pyproject\.toml|cryovae)\b", text, re.MULTILINE)
        assert {"pyproject.toml", "cryovae"} <= set(copied)
