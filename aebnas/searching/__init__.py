"""Candidate evaluation, the Optuna study, the finalists and the front."""
