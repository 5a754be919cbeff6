"""The page on a Space of the hub. `MMER_MODEL` and `MMER_TRANSCRIBE` name another model, and a speech recogniser."""

import os

from modeling_mmer.space.page import Page

page = Page(os.environ.get("MMER_MODEL"), os.environ.get("MMER_TRANSCRIBE"))
demo = page.blocks

if __name__ == "__main__":
    page.launch()
