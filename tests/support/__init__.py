"""Build what several tests share: reviews, stores, servers."""
