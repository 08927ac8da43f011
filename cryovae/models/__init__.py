"""The networks: a ladder of spatial latents, its decoder and its encoders. No wedge, no noise spectrum is known here."""
