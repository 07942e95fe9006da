"""Data sets, turned into train, validation and test splits that never touch."""
