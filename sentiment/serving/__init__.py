"""Serve predictions: the app, its pages, the versions that answer, and batch scoring."""
