"""Batches of tomograms: a workflow of jobs for Snakemake, what it runs, and how far it is. Nothing scientific is here."""
