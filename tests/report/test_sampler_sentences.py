"""What is restored is named for what it is, wherever it is seen."""

import json
from dataclasses import asdict, replace

import pytest

from cryovae.config import PRESETS, override
from cryovae.errors import InputError
from cryovae.io.mrc.writing import LABEL_LENGTH
from cryovae.report.sampler_sentences import posterior_name, sampler_sentences
from cryovae.workflows.restore import note_of


def _config(**settings):
    quick = PRESETS["quick"]
    return replace(quick, restoration=replace(quick.restoration, **settings))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "posterior"),
        ({"refine": 20}, "refined 20 posterior"),
        ({"sampler": "langevin"}, "langevin posterior"),
        ({"sampler": "reweighted", "temperature": 0.5, "refine": 20}, "tempered (T 0.5) refined 20 reweighted posterior"),
    ],
)
def test_headers_say_what_was_drawn_within_a_label(settings, name):
    config = _config(**settings)
    assert posterior_name(asdict(config.restoration)) == name
    label = f"cryovae 0.1.0 {note_of('mean', config)}"
    assert label[:LABEL_LENGTH].startswith(f"cryovae 0.1.0 {name} mean")


def test_a_deterministic_network_has_no_posterior_to_refine():
    with pytest.raises(InputError, match="one answer"):
        override(_config(refine=5), {"objective.name": "deepdewedge"})


def test_a_report_warns_of_what_is_not_to_be_trusted():
    guard = {
        "allowed_steps": 0, "steps": [0, 5], "hidden_nats_per_coefficient": [0.0, -0.01],
        "bound_nats_per_coefficient": [0.0, 0.5],
    }  # fmt: skip
    refused = {"asked_steps": 5, "guard": guard}
    assert "refused" in " ".join(sampler_sentences(refused))
    weights = {"of": 16, "mean": 1.1, "least": 1.0, "most": 3.0, "share_below_5": 1.0}
    collapsed = {"sampler": "reweighted", "temperature": 2.0, "tempered": True, "effective_sample_size": weights}
    said = " ".join(sampler_sentences(json.loads(json.dumps(collapsed))))
    assert "Tempered" in said
    assert "1.1 of 16" in said
    assert "collapsed" in said
    chain = {"steps": 40, "moved": 0.95, "climb_nats_per_coefficient": 0.2}
    assert "not converged" in " ".join(sampler_sentences({"langevin": chain}))
    assert "not converged" not in " ".join(sampler_sentences({"langevin": chain | {"climb_nats_per_coefficient": 0.001}}))
    short = chain | {"climb_nats_per_coefficient": 0.001, "moved": 0.4}
    assert "not converged" in " ".join(sampler_sentences({"langevin": short}))
    old = {"steps": 100, "accepted": 0.55, "step": 0.01, "relaxations": 5.0, "climb_nats_per_coefficient": 0.2}
    assert sampler_sentences({"langevin": old}) == []
    assert "not converged" in " ".join(sampler_sentences({"langevin": chain | {"climb_nats_per_coefficient": float("nan")}}))
    assert sampler_sentences(None) == []
