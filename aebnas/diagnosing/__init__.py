"""Diagnosing one network: what its exits say on validation and test, and how well they know when to leave."""
