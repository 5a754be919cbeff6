"""The paper's tables: which systems they compare, the training of each, and the grid of all of them."""
