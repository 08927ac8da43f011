"""Posterior samplers: amortised, refined, importance-weighted, Langevin."""
