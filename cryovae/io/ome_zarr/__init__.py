"""OME-Zarr volumes with multiscale pyramids for viewers. Requires the optional package zarr (the extra ``zarr``)."""
