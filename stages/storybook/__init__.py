"""The built-in stories: a grammar that knows the exact probability of each text."""
