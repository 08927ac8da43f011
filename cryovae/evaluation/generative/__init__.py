"""Measures of a generative model: its prior, its evidence, and its posterior of patches."""
