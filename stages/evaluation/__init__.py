"""Evaluation: perplexity with its intervals, baselines and checks."""
