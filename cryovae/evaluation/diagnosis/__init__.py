"""Diagnosis of a trained variational model: the terms of its bound, its gaps, and a comparison with a Gaussian model."""
