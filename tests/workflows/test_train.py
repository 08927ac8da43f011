"""What a stopped run may be resumed with: the settings that it began with, also those that it could not know."""

from dataclasses import replace
from pathlib import Path

import pytest

from cryovae.checkpoint import STATE, load_state, save_state
from cryovae.config import as_plain, preset
from cryovae.errors import InputError
from cryovae.workflows.run_folder import RunFolder
from cryovae.workflows.train import matching_state


def test_a_run_of_before_a_setting_came_is_resumed_without_it(tmp_path):
    config = preset("quick")
    begun = as_plain(config)
    for section, key in (("ladder", "posterior"), ("objective", "cycles")):
        del begun[section][key]
    folder = RunFolder(tmp_path, "ts_01")
    saved = load_state(Path(__file__).parents[1] / "version_0_1/interrupted" / STATE)
    save_state(folder.path(STATE), saved | {"config": begun})
    assert matching_state(folder, config)["step"] == saved["step"]
    with pytest.raises(InputError, match=r"ladder.posterior is flow but the saved run has gaussian"):
        matching_state(folder, replace(config, ladder=replace(config.ladder, posterior="flow")))
