"""Overlapping tiles of a volume: positions, extraction, batching and blending."""
