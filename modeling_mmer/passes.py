"""A pass through the shared transformer: what it shows of each row, and what comes back (Section 3.1, Eq. 3).

Shapes: B examples, N_m tokens of modality m, S positions of a sequence CLS | audio | SEP | text, d shared width.
"""

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


def fullest(predictions: dict[str, dict], present: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each row's predictions from the fullest combination it has."""
    chosen = {}
    for task, both in predictions["audio_text"].items():
        shape = (-1,) + (1,) * (both.dim() - 1)
        single = torch.where(present["audio"].view(shape), predictions["audio"][task], predictions["text"][task])
        chosen[task] = torch.where(present["audio_text"].view(shape), both, single)
    return chosen
