"""Draw the model as an SVG, from a config: `python scripts/draw_model.py docs/model.svg`.

This is the picture in the README. Sizes and names come from the config. Colours follow the light or dark theme.
"""

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from modeling_mmer import MMERConfig

STYLE = """
  text { font: 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; text-anchor: middle }
  .small { font-size: 12px; fill: #59636e }
  .box { fill: #f6f8fa; stroke: #59636e; stroke-width: 1.2 }
  .frozen { fill: #ddf4ff; stroke: #0969da }
  .trained { fill: #fff8c5; stroke: #9a6700 }
  .training { fill: none; stroke: #8250df; stroke-dasharray: 5 4; stroke-width: 1.4 }
  .line { stroke: #59636e; stroke-width: 1.4; fill: none; marker-end: url(#tip) }
  .dashed { stroke: #8250df; stroke-dasharray: 5 4 }
  .tip { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .small { fill: #9198a1 }
    .box { fill: #212830; stroke: #9198a1 }
    .frozen { fill: #0c2d4d; stroke: #4493f8 }
    .trained { fill: #3d2e00; stroke: #d29922 }
    .training, .dashed { stroke: #ab7df8 }
    .line { stroke: #9198a1 }
    .tip { fill: #9198a1 }
  }
"""


class Drawing:
    """Boxes and arrows, collected as SVG elements."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.elements: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """A box with its lines of text centred in it, the first in the normal size."""
        self.elements.append(f'<rect class="box {kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        top = y + height / 2 - 9 * (len(lines) - 1) + 5
        for i, line in enumerate(lines):
            self.text(x + width / 2, top + 18 * i, line, small=i > 0)

    def text(self, x: float, y: float, line: str, small: bool = False) -> None:
        self.elements.append(
            f'<text x="{x}" y="{y}"{" class=" + chr(34) + "small" + chr(34) if small else ""}>{escape(line)}</text>'
        )

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        path = " ".join(f"{'ML'[i > 0]}{x} {y}" for i, (x, y) in enumerate(points))
        self.elements.append(f'<path class="line{" dashed" if dashed else ""}" d="{path}"/>')

    def svg(self, title: str) -> str:
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
                f'aria-label="{escape(title)}">',
                f"<title>{escape(title)}</title>",
                f"<style>{STYLE}</style>",
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
                'orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
                *self.elements,
                "</svg>\n",
            ]
        )


def draw(config: MMERConfig) -> str:
    """The SVG of a config over the paper's encoders."""
    drawing = Drawing(900, 560)
    columns = {"audio": 60, "text": 500}
    width, d = 340, config.hidden_size
    for modality, x in columns.items():
        encoder = getattr(config, f"{modality}_config")
        states, encoder_width = encoder.num_hidden_layers + 1, encoder.hidden_size
        stride = config.audio_stride if modality == "audio" else 1
        centre = x + width / 2
        drawing.text(centre, 24, {"audio": "audio, if there is any", "text": "text, if there is any"}[modality])
        drawing.arrow((centre, 32), (centre, 50))
        name = {"whisper": "Whisper", "roberta": "RoBERTa"}.get(encoder.model_type, encoder.model_type)
        drawing.box(x, 50, width, 52, "frozen", f"{name} encoder", f"frozen, {states} states of {encoder_width}")
        drawing.arrow((centre, 102), (centre, 120))
        drawing.box(x, 120, width, 52, "trained", "Layer mix", "Eq. 1: learnt weights of the states")
        drawing.arrow((centre, 172), (centre, 190))
        projection = f"Convolution over {stride} frames" if stride > 1 else "Linear layer"
        drawing.box(x, 190, width, 52, "trained", f"{projection} → {d}", f"Eq. 2, and a vector that says “{modality}”")
        drawing.arrow((centre, 242), (centre, 268))
    x = 60
    for label, part in (("CLS", 64), ("audio tokens", 312), ("SEP", 64), ("text tokens", 340)):
        drawing.box(x, 268, part, 34, "trained" if part == 64 else "", label)
        x += part
    drawing.arrow((450, 302), (450, 322))
    positions = {"rope": "RoPE"}.get(config.position_type, f"positions: {config.position_type}")
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    drawing.box(
        60,
        322,
        780,
        56,
        "trained",
        "Shared transformer",
        f"Eq. 3: {layers} layers, width {d}, {heads} heads, {positions}",
    )
    drawing.arrow((92, 378), (92, 410))
    tasks = ", ".join(("emotion", "sentiment", *config.dimensions))
    drawing.box(60, 410, 400, 56, "trained", "Heads on CLS", tasks)
    for x, part, formula in ((500, "Masked autoencoder", "Eq. 4, 5"), (680, "Contrastive term", "Eq. 6")):
        drawing.arrow((x + 80, 378), (x + 80, 410), dashed=True)
        drawing.box(x, 410, 160, 56, "training", part, f"{formula}, training only")
    drawing.text(
        450,
        500,
        "One pass over the audio alone, the text alone, or both: a missing modality is left out of the sequence.",
    )
    drawing.text(450, 526, "blue: frozen   ·   yellow: trained   ·   dashed: used in training only", small=True)
    return drawing.svg("MMER: frozen encoders, a shared transformer over the available tokens, and heads on CLS")


if __name__ == "__main__":
    from transformers import RobertaConfig, WhisperConfig

    paper = MMERConfig(
        audio_config=WhisperConfig(d_model=1024, encoder_layers=24, encoder_attention_heads=16),
        text_config=RobertaConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16),
    )
    Path(sys.argv[1]).write_text(draw(paper), encoding="utf-8")
