"""STAR files: blocks of text columns, tables of tomograms, and tables of particles."""
