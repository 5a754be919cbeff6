"""`mmer reproduce`: every system of the paper's tables on one corpus, and its figures kept run by run."""
