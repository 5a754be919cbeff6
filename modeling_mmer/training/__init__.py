"""Training: what a run is given, its batches, the objective (Eq. 7), and what a stopped run goes on from."""
