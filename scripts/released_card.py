"""The card of the released model. Its words are in `model_cards/released.md`, its figures in `figures.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling_mmer import MMERConfig
from modeling_mmer.files import write_text
from modeling_mmer.report.card import metric_of
from modeling_mmer.report.tables import combination_name, markdown_table

CARDS = Path(__file__).parents[1] / "model_cards"
UNITS = {"emotion": 100, "sentiment": 100}  # in percent; the others are coefficients


def write_released_card(folder: Path, figures: Mapping[str, Any], config: MMERConfig, told: Mapping[str, str]) -> None:
    """Write `README.md`.

    Args:
        figures: the content of `figures.json`.
        told: what the template says in words that depend on the run.
    """
    corpora = figures["corpora"]
    general = (CARDS / "template.md").read_text(encoding="utf-8")
    card = ModelCard.from_template(
        card_data(corpora, config),
        template_path=str(CARDS / "released.md"),
        config=config,
        size=f"{(folder / 'model.safetensors').stat().st_size / 1e6:.1f}",
        folder="modeling_mmer/released",
        tables={name: figures_table(of["combinations"]) for name, of in corpora.items()},
        verdict=verdict(corpora),
        groups=groups_table(corpora),
        limits=section(general, "## Limits and misuse"),
        citation=section(general, "## Citation").removeprefix("## Citation").strip(),
        **told,
    )
    write_text(folder / "README.md", str(card).rstrip() + "\n")


def section(text: str, title: str) -> str:
    """A section of a Markdown text, with its title."""
    body = text.partition(title)[2].partition("\n## ")[0]
    return title + body.rstrip()


def card_data(corpora: Mapping[str, Any], config: MMERConfig) -> ModelCardData:
    return ModelCardData(
        model_name="modeling-mmer released",
        license="cc-by-nc-sa-4.0",
        language=["en", "de"],
        library_name="transformers",
        pipeline_tag="audio-classification",
        tags=["mmer", "emotion-recognition", "speech", "multimodal", "missing-modality"],
        base_model=[config.audio_encoder_name_or_path, config.text_encoder_name_or_path],
        eval_results=[
            EvalResult(
                task_type="text-classification" if combination == "text" else "audio-classification",
                task_name=f"Emotion recognition from {combination_name(combination)}",
                dataset_type=name,
                dataset_name=name,
                dataset_config=combination,
                dataset_split="test",
                metric_type=metric_of(name_of_figure(task))[0],
                metric_name=metric_of(name_of_figure(task))[1],
                metric_value=figure["value"],
            )
            for name, of in corpora.items()
            for combination, tasks in of["combinations"].items()
            for task, figure in tasks.items()
        ],
    )


def name_of_figure(task: str) -> str:
    """The name of a task's figure in `results.json`."""
    return {"emotion": "ua", "sentiment": "sentiment_ua"}.get(task, f"{task}_ccc")


def figures_table(combinations: Mapping[str, Any]) -> str:
    """A row per input and task: the model, the floor, and the difference."""
    rows = [
        [
            f"{combination_name(combination)}: {task}",
            figure["n"],
            with_interval(task, figure["value"], *figure["interval"]),
            printed(task, figure["floor"]),
            difference(task, figure["difference"]),
        ]
        for combination, tasks in combinations.items()
        for task, figure in tasks.items()
    ]
    return markdown_table(["Input: figure", "n", "model", "floor", "difference"], rows)


def printed(task: str, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.1f}" if task in UNITS else f"{value:{sign}.3f}"


def with_interval(task: str, value: float, low: float, high: float, sign: str = "") -> str:
    return f"{printed(task, value, sign)} [{printed(task, low, sign)}, {printed(task, high, sign)}]"


def difference(task: str, values: list[float]) -> str:
    told = with_interval(task, *values, sign="+")
    return f"**{told}**" if values[1] > 0 or values[2] < 0 else told


def verdict(corpora: Mapping[str, Any]) -> str:
    """How the model stands to the floor, counted over all rows of the tables."""
    told = {
        f"{name}, {combination_name(combination)}, {task}": figure["difference"]
        for name, of in corpora.items()
        for combination, tasks in of["combinations"].items()
        for task, figure in tasks.items()
    }
    above = [name for name, (value, _, _) in told.items() if value >= 0]
    worse = [name for name, (_, _, high) in told.items() if high < 0]
    below = [name for name in told if name not in above and name not in worse]
    sentence = f"Of {len(told)} figures, the model is at or above the floor in {len(above)}"
    sentence += f", and below it within the interval in {len(below)} ({'; '.join(below)})" if below else ""
    sentence += f"; it is **worse** than the floor in {len(worse)} ({'; '.join(worse)})" if worse else ""
    return sentence + ("." if worse else ". In none is it worse beyond the interval.")


def groups_table(corpora: Mapping[str, Any]) -> str:
    rows = [
        [f"`{name}`, {column} {value}", *(group_cell(of_value.get(c)) for c in ("audio", "text", "audio_text"))]
        for name, of in corpora.items()
        for column, of_column in of["groups"].items()
        for value, of_value in of_column.items()
    ]
    return markdown_table(["Group", "audio", "text", "audio + text"], rows)


def group_cell(figure: Mapping[str, Any] | None) -> str:
    return "–" if figure is None else f"{100 * figure['ua']:.1f} (n = {figure['n']})"
