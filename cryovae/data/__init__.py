"""A tomogram made ready for training."""
