"""Training: options, batches, the objective (Eq. 7) and resuming."""
