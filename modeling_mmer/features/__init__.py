"""What is computed of a corpus once and kept: states of the frozen encoders, and transcripts."""
