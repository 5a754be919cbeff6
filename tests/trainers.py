"""A toy corpus, its collator and a trainer of a tiny model, for the tests of training."""

from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from conftest import tiny_model
from datasets import Dataset
from transformers import TrainerCallback

from modeling_mmer import MMERTrainer
from modeling_mmer.training.arguments import RunArguments

TASKS = ("emotion", "sentiment", "valence", "arousal", "dominance")


def toy_rows(count: int, seed: int = 0) -> Dataset:
    """Rows of random features whose loudness is their arousal; every fourth lacks text, every fifth of the others
    audio."""
    generator = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        level = float(generator.uniform(1, 7))
        audio = (level - 4 + 0.3 * generator.standard_normal((8, 12))).tolist()
        text = generator.integers(3, 50, 5).tolist()
        rows.append(
            {
                "audio": None if index % 5 == 4 and index % 4 != 3 else audio,
                "text": None if index % 4 == 3 else text,
                "emotion": int(level > 4) if index % 3 else -100,
                "sentiment": int(index % 3),
                "valence": float(generator.uniform(1, 7)),
                "arousal": level,
                "dominance": float("nan"),
            }
        )
    return Dataset.from_list(rows).add_column("length", generator.integers(1, 9, count).tolist())


def collate(rows: list[dict]) -> dict:
    """Rows of equal lengths → a batch; a missing modality is zeros under an all-zero mask."""
    has_audio = torch.tensor([row["audio"] is not None for row in rows])
    has_text = torch.tensor([row["text"] is not None for row in rows])
    return {
        "input_features": torch.tensor([row["audio"] or [[0.0] * 12] * 8 for row in rows]),
        "input_features_mask": has_audio[:, None].long().expand(-1, 12),
        "input_ids": torch.tensor([row["text"] or [1] * 5 for row in rows]),
        "attention_mask": has_text[:, None].long().expand(-1, 5),
        "labels": {task: torch.tensor([row[task] for row in rows]) for task in TASKS},
    }


def toy_trainer(folder: Path, model=None, rows: int = 36, **overrides) -> MMERTrainer:
    defaults = {
        "num_train_epochs": 2,
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "logging_steps": 1,
        "train_sampling_strategy": "random",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    set_seed(0)
    model = model or tiny_model(audio_context="trimmed", dropout=0.3)
    return MMERTrainer(
        model,
        RunArguments(output_dir=str(folder), **(defaults | overrides)),
        train_dataset=toy_rows(rows),
        eval_dataset=toy_rows(13, seed=1),
        data_collator=collate,
    )


def weights(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


class StopAfter(TrainerCallback):
    """Ends a run at a step, as a scheduler's time limit would, with a checkpoint."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            control.should_training_stop = control.should_save = True
