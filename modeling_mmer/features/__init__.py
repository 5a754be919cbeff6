"""What is computed once per corpus and cached: states of the frozen encoders, and transcripts."""
