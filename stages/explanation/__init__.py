"""Explanation: what the network computes inside, measured, and a page to see it."""
