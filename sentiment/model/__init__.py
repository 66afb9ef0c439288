"""Define the algorithms, calibrate and explain them, and predict with a loaded version."""
