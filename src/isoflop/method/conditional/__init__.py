"""Methods that let a model spend less on easy inputs, one a file."""
