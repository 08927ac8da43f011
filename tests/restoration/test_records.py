"""Tables survive a journal in JSON bit by bit."""

import json

import torch

from cryovae.calibration.factors import Factors
from cryovae.calibration.fitted import Fitted, Part
from cryovae.calibration.hidden_bins import SHELLS
from cryovae.restoration.records import from_plain, to_plain


def test_a_fit_comes_out_of_json_as_it_went_in():
    parts = [Part(torch.randn(3), Factors(*torch.randn(4, SHELLS))) for _ in range(2)]
    fit = Fitted(*parts)
    again = from_plain(json.loads(json.dumps(to_plain(fit))), Fitted)
    for one, two in ((fit.wedge, again.wedge), (fit.measured, again.measured)):
        assert torch.equal(one.weights, two.weights)
        for name, table in vars(one.factors).items():
            assert torch.equal(table, getattr(two.factors, name))
