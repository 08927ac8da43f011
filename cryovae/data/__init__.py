"""Preparation of tomograms and drawing of training batches."""
