"""Methods that make a model smaller once and for all, one a file."""
