"""Evaluation: metrics, the figures of a split, and statistics of differences."""
