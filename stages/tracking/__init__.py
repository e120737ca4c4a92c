"""MLflow: one run for each experiment; the only room that imports mlflow."""
