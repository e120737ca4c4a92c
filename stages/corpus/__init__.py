"""The files between the stages: stories, tokenizer, tokens."""
