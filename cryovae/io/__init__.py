"""Input and output: MRC and OME-Zarr volumes, STAR tables, tilt files, and atomic writes."""
