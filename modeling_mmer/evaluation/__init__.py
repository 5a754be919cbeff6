"""From predictions and references to figures: metrics, the figures of a split, and what a difference means."""
