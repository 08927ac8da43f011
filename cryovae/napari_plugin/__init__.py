"""The napari plugin: open a run, write layers, explore the latent space. What needs no Qt is kept apart from the widgets."""
