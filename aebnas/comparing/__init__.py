"""Training methods beside each other: the same network, data and epochs, over several seeds."""
