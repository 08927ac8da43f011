"""Files in and out: MRC volumes, tilt angles, and files that appear whole or not at all."""
