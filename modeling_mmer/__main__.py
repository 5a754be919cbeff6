"""`python -m modeling_mmer COMMAND …`, the same as `mmer COMMAND …`."""

from .commands import main

main()
