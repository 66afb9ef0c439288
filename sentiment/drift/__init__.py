"""Compare incoming reviews with the reference of a model version, and say whether they drifted."""

MIN_WINDOW = 100  # reviews; a verdict on fewer would notice only a very large change
# Answers of the log that are compared unless told otherwise. Drift is about now, and the limits of
# longer windows are hardly narrower (`limits.SIZES`).
NEWEST = 5_000
LATEST = "drift"  # the folder beside the store with the last check as latest.html and latest.json
