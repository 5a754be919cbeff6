"""A pass through the shared transformer: what it shows of each row, and what comes back (Section 3.1, Eq. 3).

Shapes: B examples, N_m tokens of modality m, S positions of a sequence CLS | audio | SEP | text, d shared width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .embedding import ModalityTokens

MODALITIES = ("audio", "text")  # in the sequence's order
COMBINATIONS = {"audio": ("audio",), "text": ("text",), "audio_text": ("audio", "text")}


@dataclass
class Pass:
    """One pass through the shared transformer: the embeddings (B, N_m, d) of each modality and which are shown (B,
    N_m).

    A row that shows nothing takes no part in the pass.
    """

    embeddings: dict[str, torch.Tensor]
    shown: dict[str, torch.Tensor]

    @property
    def rows(self) -> torch.Tensor:
        return torch.stack([shown.any(-1) for shown in self.shown.values()]).any(0)  # (B,)


@dataclass
class Contextual:
    """What a pass gives: z at CLS (B, d) and at each modality's own positions (B, N_m, d); rows outside it are void."""

    cls: torch.Tensor
    tokens: dict[str, torch.Tensor]


def has_all(tokens: dict[str, ModalityTokens], modalities: tuple[str, ...]) -> torch.Tensor:
    """(B,) bool: the rows that have every one of `modalities`."""
    some = next(iter(tokens.values())).present
    complete = torch.ones_like(some)
    for modality in modalities:
        complete = complete & (tokens[modality].present if modality in tokens else ~torch.ones_like(some))
    return complete


def assemble(of_pass: Pass, cls_token: torch.Tensor, sep_token: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eq. 3: CLS | audio + v^audio | SEP | text + v^text as (B, S, d), and the mask (B, S) of what is shown."""
    some = next(iter(of_pass.shown.values()))
    special = some.new_ones((len(some), 1))
    sequence, mask = [], []
    for token, modality in zip((cls_token, sep_token), MODALITIES, strict=True):
        sequence.append(token.expand(len(some), 1, -1))
        mask.append(special)
        if modality in of_pass.shown:
            sequence.append(of_pass.embeddings[modality])
            mask.append(of_pass.shown[modality])
    return torch.cat(sequence, dim=1), torch.cat(mask, dim=1)


def run_alone(
    of_pass: Pass, cls_token: torch.Tensor, sep_token: torch.Tensor, transformer: Callable[..., torch.Tensor]
) -> Contextual:
    """One pass through a transformer in a call of its own, of nothing but the rows and spans that it shows."""
    rows = of_pass.rows
    if not rows.any():  # nothing to run; the zeros carry a graph, so that all processes share one backward
        return Contextual(cls=(cls_token * 0.0).expand(len(rows), -1), tokens={})
    every_row = bool(rows.all())
    visible = {m for m, shown in of_pass.shown.items() if shown.any()}
    compact = Pass(
        {m: e if every_row else e[rows] for m, e in of_pass.embeddings.items() if m in visible},
        {m: s if every_row else s[rows] for m, s in of_pass.shown.items() if m in visible},
    )
    contextual = split_sequence(transformer(*assemble(compact, cls_token, sep_token)), compact)
    if every_row:
        return contextual
    return Contextual(
        cls=spread_rows(contextual.cls, rows),
        tokens={m: spread_rows(z, rows) for m, z in contextual.tokens.items()},
    )


def split_sequence(contextual: torch.Tensor, of_pass: Pass) -> Contextual:
    """z (B, S, d) of an assembled pass → z at CLS and at each modality's own positions."""
    tokens, start = {}, 1  # CLS
    for modality in MODALITIES:
        if modality in of_pass.shown:
            length = of_pass.shown[modality].shape[1]
            tokens[modality] = contextual[:, start : start + length]
            start += length
        start += 1  # SEP
    return Contextual(cls=contextual[:, 0], tokens=tokens)


def spread_rows(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Values of some rows → all rows (B, …), zero elsewhere."""
    spread = values.new_zeros((len(rows), *values.shape[1:]))
    return spread.index_put((rows.nonzero().squeeze(-1),), values)


def shown_of(
    tokens: dict[str, ModalityTokens], modalities: tuple[str, ...], whole: bool = False
) -> dict[str, torch.Tensor]:
    """Which tokens (B, N_m) a pass over `modalities` shows, everything else hidden; `whole` drops rows that lack any of
    them."""
    shown = {m: t.mask if m in modalities else torch.zeros_like(t.mask) for m, t in tokens.items()}
    if not whole:
        return shown
    complete = has_all(tokens, modalities)
    return {m: mask & complete[:, None] for m, mask in shown.items()}


def fullest(predictions: dict[str, dict], present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each row's predictions from the fullest combination it has; combinations come with the fullest last."""
    chosen = {}
    for combination, of_tasks in predictions.items():
        for task, values in of_tasks.items():
            rows = present[combination].view((-1,) + (1,) * (values.dim() - 1))
            chosen[task] = torch.where(rows, values, chosen.get(task, values))
    return chosen
