"""Cost of a training step in several variants, as ratios.

A step is forward and backward of the full objective (Eq. 7) over a batch of 32 utterances of about 3.5 s, from encoder
states of Whisper-tiny's and MiniLM's size, so that the encoders are not timed. The variants run in rounds, and
the fastest round of each counts, because other processes slow down single rounds.

    python benchmarks/train_step.py
"""

import subprocess
import sys
import time
from functools import partial

import torch
from torch import nn
from transformers import BertConfig, WhisperConfig

from modeling_mmer import MMERConfig, MMERForEmotionRecognition
from modeling_mmer.commands.allocator import keep_freed_memory
from modeling_mmer.model.transformer import Dropout

ROUNDS = 12
BATCH, FRAMES, TOKENS, WIDTH = 32, 175, 20, 384


def build_model() -> MMERForEmotionRecognition:
    torch.manual_seed(0)
    config = MMERConfig(
        audio_config=WhisperConfig(d_model=WIDTH, encoder_layers=4),
        text_config=BertConfig(hidden_size=WIDTH, num_hidden_layers=6),
        audio_encoder_name_or_path="not loaded",
        text_encoder_name_or_path="not loaded",
    )
    return MMERForEmotionRecognition(config).train()


def build_batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(FRAMES // 2, FRAMES + 1, (BATCH, 1), generator=generator)
    tokens = torch.randint(TOKENS // 2, TOKENS + 1, (BATCH, 1), generator=generator)
    return {
        "audio_hidden_states": torch.randn(BATCH, 5, FRAMES, WIDTH, generator=generator),
        "audio_mask": torch.arange(FRAMES) < frames,
        "text_hidden_states": torch.randn(BATCH, 7, TOKENS, WIDTH, generator=generator),
        "text_mask": torch.arange(TOKENS) < tokens,
        "labels": {
            "emotion": torch.randint(0, 4, (BATCH,), generator=generator),
            "sentiment": torch.randint(0, 3, (BATCH,), generator=generator),
            **{d: 1 + 6 * torch.rand(BATCH, generator=generator) for d in ("valence", "arousal", "dominance")},
        },
    }


def seconds(model: MMERForEmotionRecognition, batch: dict) -> float:
    start = time.perf_counter()
    model(**batch).loss.backward()
    model.zero_grad()
    return time.perf_counter() - start


def with_stock_dropout(model: MMERForEmotionRecognition) -> MMERForEmotionRecognition:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.p))
    return model


def with_one_padded_call(model: MMERForEmotionRecognition) -> MMERForEmotionRecognition:
    transformer = model.model.transformer
    transformer.forward = partial(transformer.forward, one_call=True)
    return model


def supervised_alone(model: MMERForEmotionRecognition) -> MMERForEmotionRecognition:
    model.config.lambda_mae = model.config.lambda_contrastive = 0
    return model


def side_by_side() -> None:
    variants = {
        "as it is": build_model(),
        "stock dropout": with_stock_dropout(build_model()),
        "one padded call for all passes": with_one_padded_call(build_model()),
        "L_S alone": supervised_alone(build_model()),
    }
    batch = build_batch()
    best = dict.fromkeys(variants, float("inf"))
    for _ in range(ROUNDS):
        for name, model in variants.items():
            best[name] = min(best[name], seconds(model, batch))
    for name, of_variant in best.items():
        print(f"{name:34}{of_variant / best['as it is']:6.2f}")


def fastest_step(keep_memory: bool) -> float:
    if keep_memory:
        keep_freed_memory()
    model, batch = build_model(), build_batch()
    return min(seconds(model, batch) for _ in range(ROUNDS))


def allocator_ratio() -> None:
    """The allocator's setting holds for a whole process, so each is timed in one of its own, in turn."""
    best = {"True": float("inf"), "False": float("inf")}
    for _ in range(2):
        for keep in best:
            command = [sys.executable, __file__, "--allocator", keep]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            best[keep] = min(best[keep], float(printed.split()[-1]))
    print(f"{'memory given back after every tensor':34}{best['False'] / best['True']:6.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--allocator"]:
        print(fastest_step(sys.argv[2] == "True"))
        sys.exit()
    keep_freed_memory()
    print("Time of a training step from encoder states, relative to the first line:\n")
    side_by_side()
    allocator_ratio()
