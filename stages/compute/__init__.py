"""What the stages that run the network share: the machine and the saved model."""
