"""The baselines of Table 1 as tiny models, with batches for each."""

import torch
from conftest import audio_encoder_config, randomize, raw_batch, text_encoder_config

from modeling_mmer.baselines import (
    CIFMMIN,
    BaselineConfig,
    Cascade,
    CIFMMINTeacher,
    LateFusion,
    LinearProbe,
    SeparateModel,
)
from modeling_mmer.training.arguments import RunArguments

CLASSES = {
    "probe": LinearProbe,
    "cascade": Cascade,
    "late_fusion": LateFusion,
    "cif_mmin": CIFMMIN,
    "cif_mmin_teacher": CIFMMINTeacher,
    "separate_audio": SeparateModel,
    "separate_text": SeparateModel,
    "separate_audio_text": SeparateModel,
}
OF_ONE = {"cif_mmin_teacher": "audio_text"} | {name: name[9:] for name in CLASSES if name.startswith("separate_")}
ALL = ("audio", "text", "audio_text")
SERVED = {name: (OF_ONE[name],) if name in OF_ONE else ALL for name in CLASSES}
COUNTED = SERVED | {"late_fusion": ("audio_text",)}  # the combinations in the supervised loss
EMOTION_ALONE = ("cif_mmin", "cif_mmin_teacher")
SEVERAL = [name for name in CLASSES if name not in OF_ONE]
NEEDS = {"audio": ("audio",), "text": ("text",), "audio_text": ("audio", "text")}


def baseline_config(name: str, **overrides) -> BaselineConfig:
    fields = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "dropout": 0.0}
    fields |= {"audio_context": "trimmed", "combination": OF_ONE.get(name, "audio_text")}
    return BaselineConfig(
        audio_config=audio_encoder_config("whisper"), text_config=text_encoder_config(), **(fields | overrides)
    )


def tiny_rival(name: str, seed: int = 0, **overrides):
    """A rival whose weights are all random and of a size that matters, in evaluation mode."""
    torch.manual_seed(seed)
    model = randomize(CLASSES[name](baseline_config(name, **overrides)))
    if name == "probe" and not overrides:
        model.calibrate([raw_batch()])
    return model


def batch_for(name: str) -> dict[str, torch.Tensor]:
    """Rows that lack what the rival can do without."""
    needs = NEEDS[OF_ONE[name]] if name in OF_ONE else ()
    return raw_batch((40, 23, 7 if "audio" in needs else 0, 61), (5, 3 if "text" in needs else 0, 9, 2))


def states_of(rows: int = 4, seed: int = 1) -> dict[str, torch.Tensor]:
    """States of the tiny encoders' shapes; all rows have both modalities, of differing lengths."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "audio_hidden_states": torch.randn(rows, 3, 9, 16, generator=generator),
        "audio_mask": torch.arange(9) < torch.tensor([9, 1, 5, 8])[:rows, None],
        "text_hidden_states": torch.randn(rows, 4, 6, 12, generator=generator),
        "text_mask": torch.arange(6) < torch.tensor([6, 1, 2, 5])[:rows, None],
    }


def predict(model, batch) -> dict[str, dict[str, torch.Tensor]]:
    with torch.no_grad():
        return model(**batch).combinations


def corpus(rows: int, seed: int) -> list[dict]:
    """Emotions of four classes: audio tells which pair it is of, text which one of each pair; only both tell it."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for row in range(rows):
        of_pair, of_one = row % 4 // 2, row % 2
        audio, text = torch.randn(3, 6, 16, generator=generator), torch.randn(4, 5, 12, generator=generator)
        audio[..., :4] += 3 * (2 * of_pair - 1)
        text[..., :4] += 3 * (2 * of_one - 1)
        made.append({"audio_hidden_states": audio, "text_hidden_states": text, "emotion": torch.tensor(row % 4)})
    return made


def collate(rows: list[dict]) -> dict:
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    return batch | {"labels": {"emotion": batch.pop("emotion")}}


def run_arguments(folder, **overrides) -> RunArguments:
    defaults = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "warmup_steps": 0}
    defaults |= {"train_sampling_strategy": "random", "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    defaults |= {"per_device_train_batch_size": 16, "per_device_eval_batch_size": 64, "learning_rate": 5e-3}
    return RunArguments(output_dir=str(folder), **(defaults | overrides))
