"""Compare two versions that answer at the same time: who gets which arm, how two arms compare."""
