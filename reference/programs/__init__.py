"""Models as lists of named steps; torch-free, no tensors in them."""
