"""The napari plugin: open, restore, compare, doubt, explore. Logic without Qt stands beside the widgets that show it."""
