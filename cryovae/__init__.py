"""cryovae: restores cryo-electron tomograms with a generative model, and says how sure it is."""

__version__ = "0.1.0"
