"""Whether ONNX graphs give the outputs of the model that they were made from, over random batches of random shapes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..model.configuration_mmer import MMERConfig
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.outputs import PREDICTION_FIELDS

TOLERANCE = 1e-4  # of probabilities, and of dimensions on their scale
MOST_ROWS, MOST_FRAMES, MOST_TOKENS = 4, 600, 60


def largest_difference(
    model: MMERForEmotionRecognition, folder: Path, name: str, batches: int = 20, seed: int = 0
) -> float:
    """The largest difference in any output of a combination between its graph in `folder` and the model (float32)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
    tasks = [task.name for task in model.config.tasks]
    largest = 0.0
    for batch in random_batches(model.config, model.config.combinations[name], batches, seed):
        found, expected = session.run(tasks, batch), predictions(model, batch)
        # NaN must not pass as no difference
        differences = [np.abs(of_graph - expected[task]).max() for task, of_graph in zip(tasks, found, strict=True)]
        largest = max(largest, *(float(np.nan_to_num(difference, nan=np.inf)) for difference in differences))
    return largest


def predictions(model: MMERForEmotionRecognition, batch: dict[str, NDArray]) -> dict[str, NDArray]:
    """What the model says of a batch: probabilities (B, K) of class tasks, and dimensions (B,)."""
    with torch.no_grad():
        output = model(**{name: torch.from_numpy(value) for name, value in batch.items()})
    values = {task: output[PREDICTION_FIELDS.get(task.name, task.name)].float() for task in model.config.tasks}
    return {t.name: (of_task.softmax(-1) if t.is_class else of_task).numpy() for t, of_task in values.items()}


def random_batches(
    config: MMERConfig, modalities: tuple[str, ...], count: int, seed: int
) -> Iterator[dict[str, NDArray]]:
    """Batches of 1 to 4 rows, with 1 to 600 frames and 1 to 60 tokens, or as many as fit the encoders.

    The first has a single row of a single frame and token, the second has the most frames.
    """
    random = np.random.default_rng(seed)
    most_frames = 2 * config.audio_config.max_source_positions
    most_tokens = min(MOST_TOKENS, config.text_config.max_position_embeddings - 4)  # RoBERTa's positions start at 2
    for number in range(count):
        rows = 1 if number < 2 else int(random.integers(1, MOST_ROWS + 1))
        frames = most_frames if number == 1 else int(random.integers(1, min(MOST_FRAMES, most_frames) + 1))
        lengths = {
            "audio": 1 if number == 0 else frames,
            "text": 1 if number == 0 else int(random.integers(1, most_tokens + 1)),
        }
        batch = {}
        for modality in modalities:
            longest = lengths[modality]
            of_rows = np.append(random.integers(1, longest + 1, rows - 1), longest)
            mask = (np.arange(longest) < of_rows[:, None]).astype(np.int64)
            if modality == "audio":
                features = random.standard_normal((rows, config.audio_config.num_mel_bins, longest))
                batch |= {"input_features": features.astype(np.float32), "input_features_mask": mask}
            else:
                words = random.integers(3, config.text_config.vocab_size, (rows, longest))
                padding = config.text_config.pad_token_id or 0
                batch |= {"input_ids": np.where(mask == 1, words, padding), "attention_mask": mask}
        yield batch
