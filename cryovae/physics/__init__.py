"""The imaging model: rotations, missing wedge, noise, contrast transfer, projection and likelihood. No networks here."""
