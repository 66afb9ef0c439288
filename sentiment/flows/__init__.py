"""Run retraining and drift checks as Prefect flows, on a schedule."""
