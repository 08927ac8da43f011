"""How a tomogram comes about: rotations, the missing wedge, the noise, and their likelihood. No network is known here."""
