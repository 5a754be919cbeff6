"""The experiments of the paper's tables: the systems, their training, and the grid of all runs."""
