"""Build what several tests share: reviews, stores, servers."""

# What people find in their MLflow, where no project is named
REGISTERED_MODEL, LEDGER = "FlipkartSentimentModel", "FLIPKART_SENTIMENT_ANALYSIS"
