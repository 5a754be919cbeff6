"""The paper's tables from a checkout: `python reproduce.py [recipe.yaml] [--option value …]` (= `mmer reproduce`)."""

import sys

from modeling_mmer.commands.reproduce import main

if __name__ == "__main__":
    main(sys.argv[1:])
