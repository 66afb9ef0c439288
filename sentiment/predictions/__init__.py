"""Keep the log of predictions and feedback: tables, reading, the writer thread."""
