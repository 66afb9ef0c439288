"""Open the MLflow store, write its runs, keep the ledger, and store pipelines as models."""
