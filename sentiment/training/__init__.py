"""Search, fit, evaluate and report the models of a pass."""
