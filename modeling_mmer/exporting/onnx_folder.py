"""The folder that `mmer export --format onnx` writes: graphs, and all that running them without torch needs."""

import json
import shutil
from pathlib import Path

import numpy as np
import yaml
from tokenizers import Tokenizer

from ..files import write_json, write_text
from ..model.configuration_mmer import MMERConfig
from ..model.encoders import text_positions
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from .agreement import TOLERANCE, largest_difference
from .endpoint import write_endpoint
from .graphs import quantize, require_exportable, write_graphs

HERE = Path(__file__).parent
CARD_FIELDS = ("license", "license_name", "license_link", "language", "base_model", "tags", "pipeline_tag")
INT8_FIGURES = "int8.json"  # beside a model: what `scripts/int8_figures.py` measured


def require_libraries() -> None:
    """Raise a ValueError if a library of the extra `onnx` is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ValueError(f'--format onnx needs {error.name or "onnx"}: pip install "modeling-mmer[onnx]"') from error


def write_onnx(
    model: MMERForEmotionRecognition, processor: MMERProcessor, source: Path, folder: Path, name: str, int8: bool
) -> dict[str, float]:
    """Write a model in float32 as ONNX graphs, verified against it, into a new folder.

    Args:
        source: the folder of the model, with its card.
        name: of the export, the title of its README.
        int8: let the encoders have int8 weights, after the graphs were verified.

    Returns:
        combination → the largest difference between outputs of its graph and the model; with `int8`, of int8 weights.

    Raises:
        ValueError: a graph gives other outputs than the model, or there are no graphs for such a model.
    """
    require_exportable(model.config)
    folder.mkdir()
    write_graphs(model, folder)
    differences = {combination: largest_difference(model, folder, combination) for combination in model.served}
    for combination, difference in differences.items():
        if not difference <= TOLERANCE:
            raise ValueError(
                f"The outputs of {combination}.onnx differ from the model's by up to {difference:.2g}; it was removed."
            )
    if int8:
        quantize(folder)
        differences = {combination: largest_difference(model, folder, combination) for combination in model.served}
    config = settings(model, processor, int8)
    write_json(folder / "config.json", config)
    np.save(folder / "mel_filters.npy", np.asarray(processor.feature_extractor.mel_filters, np.float32))
    write_tokenizer(processor, config["max_tokens"], folder / "tokenizer.json")
    shutil.copy(HERE / "onnx_inference.py", folder)
    write_endpoint(folder, onnx=True)
    write_text(folder / "README.md", readme(model.config, config, source, name))
    if (source / "LICENSE").is_file():
        shutil.copy(source / "LICENSE", folder)
    return differences


def settings(model: MMERForEmotionRecognition, processor: MMERProcessor, int8: bool) -> dict:
    """What `onnx_inference.py` reads from `config.json`."""
    config, extractor = model.config, processor.feature_extractor
    positions = text_positions(model.model.encoders["text"].encoder)
    longest = [processor.tokenizer.model_max_length, *([] if positions is None else [positions])]
    return {
        "classes": {task.name: list(task.classes) for task in config.tasks if task.is_class},
        "dimensions": list(config.dimensions),
        "label_scale": list(config.label_scale),
        "sampling_rate": extractor.sampling_rate,
        "n_fft": extractor.n_fft,
        "hop_length": extractor.hop_length,
        "window_samples": min(extractor.n_samples, 2 * config.audio_config.max_source_positions * extractor.hop_length),
        "max_tokens": min(longest),
        "weights": "int8" if int8 else "float32",
    }


def write_tokenizer(processor: MMERProcessor, max_tokens: int, file: Path) -> None:
    """Write `tokenizer.json`, which cuts texts at `max_tokens` and does not pad them."""
    tokenizer = Tokenizer.from_str(processor.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    tokenizer.save(str(file))


def readme(config: MMERConfig, stored: dict, source: Path, name: str) -> str:
    """The README of the folder, with the licence of the model's card and, where it was measured, the cost of int8."""
    low, high = (f"{end:g}" for end in config.label_scale)
    dimensions = ", ".join(f"`{name}`" for name in config.dimensions)
    return (
        (HERE / "onnx_readme.md")
        .read_text(encoding="utf-8")
        .format(
            front_matter=front_matter(source / "README.md"),
            name=Path(name).name,
            precision=precision(stored["weights"], source / INT8_FIGURES),
            sampling_rate=stored["sampling_rate"],
            tasks=", ".join([*stored["classes"], *config.dimensions]),
            scale=f"from {low} to {high}",
            window=stored["window_samples"] / stored["sampling_rate"],
            mels=config.audio_config.num_mel_bins,
            frames=stored["window_samples"] // stored["hop_length"],
            max_tokens=stored["max_tokens"],
            classes=" and ".join(f"`{task}`" for task in stored["classes"]),
            dimensions=dimensions or "nothing else",
        )
    )


def front_matter(card: Path) -> str:
    """The fields of a card's front matter that hold for graphs too, as YAML between dashes."""
    parts = card.read_text(encoding="utf-8").split("---\n", 2) if card.is_file() else []
    stored = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else {}
    fields = {name: stored[name] for name in CARD_FIELDS if name in (stored or {})} | {"library_name": "onnx"}
    return f"---\n{yaml.safe_dump(fields, sort_keys=False)}---\n\n"


def precision(weights: str, figures: Path) -> str:
    """A sentence on the precision of the weights; for int8 with its cost, if that was measured."""
    if weights == "float32":
        return "Weights are float32."
    sentence = "The encoders' weights are int8."
    if not figures.is_file():
        return f"{sentence} What this costs in accuracy was not measured."
    measured = json.loads(figures.read_text(encoding="utf-8"))
    costs = ", ".join(
        f"{of['float32']:.1%} → {of['int8']:.1%} from {combination.replace('_', ' and ')}"
        for combination, of in measured["combinations"].items()
    )
    return (
        f"{sentence} UA of emotion on the {measured['split']} split of {measured['corpus']}, float32 → int8: {costs}."
    )
