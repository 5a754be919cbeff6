"""Train MMER from a checkout: `accelerate launch train.py [recipe.yaml] [--option value …]` (= `mmer train`)."""

import sys

from modeling_mmer.commands.train import main

if __name__ == "__main__":
    main(sys.argv[1:])
