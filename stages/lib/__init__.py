"""What the stages share. Imports go one way: stages, stages.lib, model, torch."""
