"""Generation: samples, and what can be measured in them."""
