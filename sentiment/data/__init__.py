"""Read and write tables, and turn a file into checked reviews, labels and the split."""
