"""The napari plugin: open a run, write layers, explore the latent space. What needs no Qt stands beside the widgets that show it."""
