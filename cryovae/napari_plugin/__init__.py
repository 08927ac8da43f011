"""The napari plugin: readers, a writer, sample data and four widgets. The ``*_model`` modules need no Qt."""
