"""Drawing latents for one patch or many: how samples of the posterior come about."""
