"""The spread of the embeddings of an utterance before and after the shared transformer (collapse, Table 2)."""

from collections import defaultdict

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Trainer

from ..model.transformer import show
from .metrics import collapse_distance, mean_of_present

UTTERANCES = 300


@torch.no_grad()
def collapse_distances(trainer: Trainer, rows: Dataset, seed: int) -> dict[str, dict[str, float]]:
    """modality → `input` (h), `output` (z): the largest pair-wise distance in an utterance, averaged over `n` of them.

    Up to 300 utterances are drawn by `seed`; n of them have the modality. The pass is the clean one over all
    modalities of each utterance.
    """
    chosen = np.random.default_rng(seed).permutation(len(rows))[:UTTERANCES]
    core = trainer.model.base_model.eval()
    modalities = core.config.modalities
    distances = {modality: defaultdict(list) for modality in modalities}
    loader = DataLoader(  # not that of the Trainer, which distributes rows over processes
        rows.select(np.sort(chosen)), trainer.args.per_device_eval_batch_size, collate_fn=trainer.data_collator
    )
    for batch in loader:
        inputs = trainer._prepare_inputs(batch)
        tokens = core.embed(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        output = core.transformer({"clean": show(tokens, modalities)})["clean"]
        for modality, of_modality in tokens.items():
            for place, embeddings in (("input", of_modality.projected), ("output", output.tokens[modality])):
                for embedded, real in zip(embeddings, of_modality.mask, strict=True):
                    distances[modality][place].append(collapse_distance(embedded[real].float().cpu().numpy()))
    means = {m: {p: mean for p in d if (mean := mean_of_present(d[p])) is not None} for m, d in distances.items()}
    counts = {m: sum(v is not None for v in distances[m]["input"]) for m in modalities}
    return {m: {"n": counts[m], **places} for m, places in means.items() if places}
