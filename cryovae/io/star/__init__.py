"""STAR files: blocks of text columns in and out, tables of tomograms, particle tables."""
