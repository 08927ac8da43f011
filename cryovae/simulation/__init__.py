"""Simulated scenes, acquisitions and tilt series."""
