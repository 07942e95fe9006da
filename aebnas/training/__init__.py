"""Regimes as lists of phases, the one training loop they share, and the feature cache."""
