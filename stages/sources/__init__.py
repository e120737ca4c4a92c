"""Where stories come from: the storybook, the Hugging Face Hub, local files."""
