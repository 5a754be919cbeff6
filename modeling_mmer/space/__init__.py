"""The page on which somebody without code judges recordings and texts: `mmer space`, and `space/app.py` on the hub.

`judging.py` computes, with the package's own scorer; the other files say and show what it answers. Only `page.py` needs
Gradio (`pip install "modeling-mmer[space]"`).
"""
