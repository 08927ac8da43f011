"""Scores of a restoration: against a truth, against measured data, and in comparison with trivial baselines."""
