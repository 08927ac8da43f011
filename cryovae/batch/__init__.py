"""Batches of tomograms: a workflow of jobs for Snakemake, its steps and their states. It has no science of its own."""
