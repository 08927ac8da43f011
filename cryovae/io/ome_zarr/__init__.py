"""OME-Zarr volumes: pyramids that viewers open at any size. Needs the package zarr, the extra of that name."""
