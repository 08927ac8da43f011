"""Checks of a tomogram and of the model for it, before they are used. All commands share them."""
