"""Statistics on held-out bins as a run.json has them."""

import numpy as np

FREQUENCY = (np.arange(1, 21) / 40).tolist()
CEILING = np.linspace(0.9, 0.3, 20)
HELD_OUT = {
    "frequency": FREQUENCY,
    "fsc": (CEILING * np.linspace(1.0, 0.2, 20)).tolist(),
    "ceiling": CEILING.tolist(),
    "correlation": 0.62,
    "correlation_ceiling": 0.71,
    "chi2": [1.1] * 20,
    "chi2_band": 1.08,
    "factor_two": None,
    "coverage": {"0.5": 0.49, "0.8": 0.79, "0.9": 0.88, "0.95": 0.94},
    "rms_over_std": 1.4,
    "rms_over_std_fitted": 1.05,
    "spread_factor": [1.4] * 20,
    "bins": 12345,
    "patches": 4,
    "trained_on": False,
}
