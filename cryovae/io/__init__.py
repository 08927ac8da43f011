"""Reading and writing: MRC and OME-Zarr volumes, STAR tables, tilt files, and atomic writes."""
