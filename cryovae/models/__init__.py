"""Networks: a ladder VAE with spatial latents, its decoder and its encoders. They know no wedge and no noise spectrum."""
