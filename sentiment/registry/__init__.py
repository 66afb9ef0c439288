"""Decide which version is in production: the promotion gate and the life cycle of versions."""
