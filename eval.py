"""Judge a checkpoint from a checkout: `python eval.py MODEL --corpus NAME [--option value …]` (= `mmer eval`)."""

import sys

from modeling_mmer.commands.eval import main

if __name__ == "__main__":
    main(sys.argv[1:])
