"""Other architectures for the same task: what a model is made of."""
