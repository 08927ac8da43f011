"""Checks of a tomogram, its files and its model before work; what they find, in one list for all commands."""
