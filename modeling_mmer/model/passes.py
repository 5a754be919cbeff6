"""A pass through the shared transformer: what it shows of each row, and what comes back (Section 3.1).

Shapes: B examples, N_m tokens of modality m, S positions of a sequence, d shared width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from .embedding import ModalityTokens


@dataclass
class Pass:
    """The embeddings (B, N_m, d) of each modality, v^m added, and which of them are shown (B, N_m).

    A row that shows nothing takes no part in the pass.
    """

    embeddings: dict[str, torch.Tensor]
    shown: dict[str, torch.Tensor]

    @property
    def rows(self) -> torch.Tensor:
        """(B,) bool: the rows that take part."""
        return torch.stack([shown.any(-1) for shown in self.shown.values()]).any(0)

    def only(self, rows: torch.Tensor) -> "Pass":
        """The pass without the rows that are not among `rows` (B,), and without modalities that none of them shows."""
        visible = [modality for modality, shown in self.shown.items() if shown.any()]
        if bool(rows.all()):
            return Pass({m: self.embeddings[m] for m in visible}, {m: self.shown[m] for m in visible})
        return Pass({m: self.embeddings[m][rows] for m in visible}, {m: self.shown[m][rows] for m in visible})


@dataclass
class PassOutput:
    """What a pass gives: z (B, S, d) over the sequence, its mask (B, S), and where in it each modality lies.

    Rows that took no part are void.
    """

    sequence: torch.Tensor
    mask: torch.Tensor
    spans: dict[str, slice]

    @property
    def cls(self) -> torch.Tensor:
        """z at CLS: (B, d)."""
        return self.sequence[:, 0]

    @property
    def tokens(self) -> dict[str, torch.Tensor]:
        """z at each modality's own positions: (B, N_m, d)."""
        return {modality: self.sequence[:, span] for modality, span in self.spans.items()}

    def spread(self, rows: torch.Tensor) -> "PassOutput":
        """The output of a pass that was run for `rows` (B,) only, as one of all B rows: zeros elsewhere."""
        if bool(rows.all()):
            return self
        return PassOutput(spread_rows(self.sequence, rows), spread_rows(self.mask, rows), self.spans)


def show(tokens: Mapping[str, ModalityTokens], modalities: tuple[str, ...], whole: bool = False) -> Pass:
    """The pass that shows `modalities`, everything else hidden; `whole` drops rows that lack any of them."""
    shown = {m: t.mask if m in modalities else torch.zeros_like(t.mask) for m, t in tokens.items()}
    if whole:
        complete = has_all(tokens, modalities)
        shown = {m: mask & complete[:, None] for m, mask in shown.items()}
    return Pass({m: t.embeddings for m, t in tokens.items()}, shown)


def has_all(tokens: Mapping[str, ModalityTokens], modalities: tuple[str, ...]) -> torch.Tensor:
    """(B,) bool: the rows that have every one of `modalities`."""
    nowhere = torch.zeros_like(next(iter(tokens.values())).present)
    return torch.stack([tokens[m].present if m in tokens else nowhere for m in modalities]).all(0)


def spread_rows(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Values of some rows → all rows (B, …), zero elsewhere."""
    spread = values.new_zeros((len(rows), *values.shape[1:]))
    return spread.index_put((rows.nonzero().squeeze(-1),), values)


def fullest(predictions: Mapping[str, dict], present: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each row's predictions from the fullest combination it has; combinations come with the fullest last."""
    chosen = {}
    for combination, of_tasks in predictions.items():
        for task, values in of_tasks.items():
            rows = present[combination].view((-1,) + (1,) * (values.dim() - 1))
            chosen[task] = torch.where(rows, values, chosen.get(task, values))
    return chosen
