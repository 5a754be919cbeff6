"""Model cards: a README.md with plots, in the format of the hub.

The text comes from `model_cards/template.md`, which contains no figures. What was not measured is left out, and what is
not known is marked as such.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..files import write_text
from ..model.configuration_mmer import MMERConfig
from .plots import plot_confusion, plot_training
from .tables import by_combination, caveats_list, combination_name, recall_table, results_table, retrieval_line

# The template is at the top of a checkout, and inside an installed package.
_TEMPLATE_PATHS = [Path(__file__).parents[n] / "model_cards" / "template.md" for n in (2, 1)]


@dataclass(frozen=True)
class Provenance:
    """Facts about data and training for the card. What is not known is None or empty."""

    license: str | None = None
    language: str | None = None
    notices: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    log_history: Sequence[Mapping[str, float]] = ()


def write_card(
    folder: Path, results: Mapping[str, Any], config: MMERConfig, provenance: Provenance, model_id: str | None = None
) -> None:
    """Write `README.md`, `confusion_matrix.png` and `training_curves.png` into a folder.

    Args:
        results: the content of `results.json`.
        model_id: the name of the model in the card; by default that in the results.
    """
    split = "test" if "test" in results["splits"] else next(iter(results["splits"]))
    figures = results["splits"][split]
    pictures = {
        "confusion": plot_confusion(folder / "confusion_matrix.png", figures),
        "curves": plot_training(folder / "training_curves.png", provenance.log_history, config),
    }
    model_id = model_id or results["model"]
    card = ModelCard.from_template(
        card_data(results, split, model_id, config, provenance),
        template_path=str(next(path for path in _TEMPLATE_PATHS if path.is_file())),
        model_id=model_id,
        title=Path(model_id).name,  # the template cannot read it from the card data, which is YAML by then
        results=results,
        split=split,
        table=results_table(figures),
        retrieval=retrieval_line(figures),
        caveats=caveats_list(results),
        recall=recall_table(figures),
        config=config,
        provenance=provenance,
        pictures=pictures,
        snippet_id=json.dumps(model_id),
        objective=objective(config),
    )
    write_text(folder / "README.md", str(card).rstrip() + "\n")


def card_data(
    results: Mapping[str, Any], split: str, model_id: str, config: MMERConfig, provenance: Provenance
) -> ModelCardData:
    """The YAML metadata that the hub indexes, with the figures of `results.json` as `model-index`."""
    names = [config.encoder_name(modality) for modality in config.modalities]
    return ModelCardData(
        model_name=Path(model_id).name,
        license="other" if provenance.license is None else provenance.license,
        language=provenance.language,
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["mmer", "emotion-recognition", "speech", "multimodal", "missing-modality"],
        base_model=[name for name in names if name and not Path(name).exists()] or None,
        eval_results=[
            EvalResult(
                task_type="text-classification" if combination == "text" else "audio-classification",
                task_name=f"Emotion recognition from {combination_name(combination)}",
                dataset_type=results["corpus"],
                dataset_name=results["corpus"],
                dataset_config=combination,  # without it, the hub would merge the two audio results
                dataset_split=split,
                metric_type=metric[0],
                metric_name=metric[1],
                metric_value=value,
            )
            for combination, of_combination in by_combination(results["splits"][split]).items()
            for name, value in of_combination.items()
            if (metric := metric_of(name))
        ],
    )


def metric_of(name: str) -> tuple[str, str] | None:
    """Type and name on the hub of a figure in results.json; None if it is not a metric."""
    task, _, measure = name.rpartition("_")
    if name == "macro_f1":
        return "f1", "Macro F1 of emotion"
    if measure == "ccc":
        return "ccc", f"CCC of {task}"
    return ("recall", f"UA of {task}" if task else "UA (macro recall of emotion)") if measure == "ua" else None


def objective(config: MMERConfig) -> str:
    """Eq. 7 with the weights of this model."""
    terms = {"MAE": config.lambda_mae, "contrastive": config.lambda_contrastive}
    supervised = {1: ["supervised"], 0: []}.get(
        config.lambda_supervised, [f"{config.lambda_supervised:g} · supervised"]
    )
    return " + ".join([*supervised, *(f"{weight:g} · {name}" for name, weight in terms.items() if weight > 0)])
