"""Where stories, and weights to start from, come from: the storybook, the Hugging Face Hub, local files."""
