"""Compare incoming reviews with the training data of a version."""
