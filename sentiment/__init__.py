"""Hold everything the two scripts call, in rooms that import one way."""
