"""Opens a copick tree by the package copick, which needs an older zarr than cryovae: run by an interpreter of its own.

python open_copick.py copick.json OUT.npz      writes each tomogram, and prints their names and sizes as JSON
"""

import json
import sys

import copick
import numpy as np
import zarr


def main() -> None:
    config, out = sys.argv[1:]
    listed, volumes = [], {}
    for run in copick.from_file(config).runs:
        for spacing in run.voxel_spacings:
            for tomogram in spacing.tomograms:
                image = zarr.open(tomogram.zarr(), mode="r").attrs["multiscales"][0]
                scale = image["datasets"][0]["coordinateTransformations"][0]["scale"]
                listed.append(
                    [run.name, spacing.voxel_size, tomogram.tomo_type, tomogram.read_only, scale, len(image["datasets"])]
                )
                volumes[f"{run.name}/{tomogram.tomo_type}"] = tomogram.numpy()
    np.savez(out, **volumes)
    print(json.dumps(sorted(listed)))


if __name__ == "__main__":
    main()
