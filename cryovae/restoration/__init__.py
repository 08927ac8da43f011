"""Restoration of a whole tomogram, in memory or from files."""
