"""Losses and validation scores."""
