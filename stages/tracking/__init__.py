"""MLflow: one run for each experiment; the only package that imports mlflow."""
