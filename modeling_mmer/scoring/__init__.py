"""Scoring: recordings and texts in, columns of labels out; timelines, and the files that hold them."""
