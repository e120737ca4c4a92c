"""Training: the loop and all that it is made of."""
