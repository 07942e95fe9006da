"""Before a search: an experiment that is asked for, tried out, and an installation that is looked at."""
