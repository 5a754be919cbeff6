"""Markdown from `results.json`, in the form of the paper's Table 1.

Most functions take one split of `results.json`, a dict with one entry per combination of modalities, `retrieval` and
`collapse`. UA, recall and retrieval are printed in percent, CCC as a number, and absent figures as a dash.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.figures import NOT_COMBINATIONS
from ..files import write_text
from ..model.configuration_mmer import COMBINATIONS
from ..model.tasks import DIMENSIONS

ABSENT = "–"


def results_table(results_for_split: Mapping[str, Any]) -> str:
    """The main table: one row per combination, with its number of rows, UA (%) and the CCC of each dimension. Each
    figure has the number of labelled rows. Where raters' votes were compared, their divergence is the last column.

    The paper's three combinations and dimensions are always included. Others follow in the order of the results.
    """
    combinations = by_combination(results_for_split)
    dimensions = list(DIMENSIONS)
    for figures in combinations.values():
        named = (name.removesuffix("_ccc") for name in figures if name.endswith("_ccc"))
        dimensions += [dimension for dimension in named if dimension not in dimensions]
    header = ["Input", "Rows", "UA (%)", *(f"{dimension.capitalize()} CCC" for dimension in dimensions)]
    voted = ["emotion_jsd"] if any("emotion_jsd" in figures for figures in combinations.values()) else []
    header += ["JSD from votes" for _ in voted]
    rows = [
        [
            combination_name(combination),
            _count(figures.get("n")),
            _percent(figures.get("ua")) + _labelled(figures, "emotion", "ua"),
            *(
                _decimal(figures.get(f"{dimension}_ccc")) + _labelled(figures, dimension, f"{dimension}_ccc")
                for dimension in dimensions
            ),
            *(_decimal(figures.get(name)) + _labelled(figures, "emotion_votes", name) for name in voted),
        ]
        for combination, figures in combinations.items()
    ]
    return markdown_table(header, rows)


def retrieval_line(results_for_split: Mapping[str, Any]) -> str:
    """One sentence on retrieval (Table 3) with its chance level; empty if it was not measured."""
    retrieval = results_for_split.get("retrieval")
    if not retrieval:
        return ""
    shares = {name.replace("_to_", " → "): _percent(share, " %") for name, share in retrieval.items() if name != "n"}
    line = ", ".join(f"{direction} {share}" for direction, share in shares.items())
    if retrieval.get("n"):
        return f"Retrieval among {retrieval['n']}: {line} (chance {_percent(1 / retrieval['n'], ' %')})."
    return f"Retrieval: {line}."


def caveats_list(results: Mapping[str, Any]) -> str:
    """The caveats of the figures as a Markdown list; empty if there are none.

    Args:
        results: all of `results.json`, not one split.
    """
    caveats = results.get("caveats")
    return "\n".join(["Caveats:", "", *map(markdown_item, caveats)]) if caveats else ""


def markdown_item(sentence: str) -> str:
    """A list item on one line, even if names in it contain line breaks."""
    return f"- {' '.join(str(sentence).split())}"


def recall_table(results_for_split: Mapping[str, Any]) -> str:
    """Per-class recall in percent: one row per combination, one column per class; empty if it was not measured."""
    recalls = {
        combination: figures["per_class_recall"]
        for combination, figures in by_combination(results_for_split).items()
        if figures.get("per_class_recall")
    }
    if not recalls:
        return ""
    labels = list(dict.fromkeys(label for recall in recalls.values() for label in recall))
    rows = [
        [combination_name(combination), *(_percent(recall.get(label)) for label in labels)]
        for combination, recall in recalls.items()
    ]
    return markdown_table(["Recall (%)", *labels], rows)


def confusion_table(confusion: Mapping[str, Any]) -> str:
    """A confusion matrix: rows are references, columns predictions.

    Args:
        confusion: `{"labels": [K names], "rows": [K lists of K counts]}`.

    Raises:
        ValueError: the matrix is not K by K.
    """
    labels, counts = confusion["labels"], confusion["rows"]
    if len(counts) != len(labels) or any(len(row) != len(labels) for row in counts):
        raise ValueError(
            f"A confusion matrix of {len(labels)} labels needs {len(labels)} rows of {len(labels)} counts, "
            f"got rows of {[len(row) for row in counts]}."
        )
    rows = [[label, *(str(count) for count in row)] for label, row in zip(labels, counts, strict=True)]
    return markdown_table(["reference \\ predicted", *labels], rows)


def collapse_table(results_for_split: Mapping[str, Any]) -> str:
    """Spread of embeddings (Table 2) at the input and output of the shared transformer; empty if not measured."""
    collapse = results_for_split.get("collapse")
    if not collapse:
        return ""
    rows = [
        [combination_name(modality), _decimal(places.get("input")), _decimal(places.get("output"))]
        for modality, places in collapse.items()
    ]
    return markdown_table(["Largest distance", "input h", "output z"], rows)


def write_report(path: str | os.PathLike, results: Mapping[str, Any]) -> None:
    """Write `results` (the content of `results.json`) as a Markdown report to the file `path`, atomically.

    What `results` lacks is left out of the report.

    Raises:
        ValueError: a confusion matrix is not square.
    """
    sections = [_heading(results), *filter(None, [caveats_list(results)])]
    for split, split_results in results.get("splits", {}).items():
        sections.append(_split_section(split, split_results))
    write_text(path, "\n\n".join(sections) + "\n")


def markdown_table(header: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, the first column left-aligned and the others right-aligned; `|` in a cell is escaped."""
    alignment = ["---", *["---:"] * (len(header) - 1)]
    lines = [[_cell(cell) for cell in header], alignment, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heading(results: Mapping[str, Any]) -> str:
    corpus = results.get("corpus")
    facts = {
        "Model: `{}`": results.get("model"),
        "Corpus: {}": ", ".join(map(str, corpus)) if isinstance(corpus, list | tuple) else corpus,
        "Mean over {} folds; counts and confusion matrices are their sums": results.get("folds"),
        "Seed: {}": results.get("seed"),
        "Trainable parameters: {:,}": results.get("trainable_parameters"),
    }
    lines = [f"- {fact.format(value)}" for fact, value in facts.items() if value is not None]
    return "\n\n".join(["# Emotion recognition: measured results", *(["\n".join(lines)] if lines else [])])


def _split_section(split: str, results: Mapping[str, Any]) -> str:
    parts = [f"## {split.capitalize()}", results_table(results), retrieval_line(results), recall_table(results)]
    for combination, figures in by_combination(results).items():
        if figures.get("confusion_matrix"):
            parts.append(f"Confusion matrix, {combination_name(combination)}:")
            parts.append(confusion_table(figures["confusion_matrix"]))
    collapse = collapse_table(results)
    if collapse:
        parts += ["Largest pair-wise Euclidean distance among one utterance's embeddings:", collapse]
    return "\n\n".join(part for part in parts if part)


def by_combination(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of the paper's combinations, empty if not measured, then of any others as the results have them."""
    present = {name: figures for name, figures in results.items() if name not in NOT_COMBINATIONS}
    return {name: present.get(name, {}) for name in (*COMBINATIONS, *present)}


def combination_name(combination: str) -> str:
    return " + ".join(combination.split("_"))


def _count(value: int | None) -> str:
    return ABSENT if value is None else f"{value:,}"


def _labelled(figures: Mapping[str, Any], task: str, name: str) -> str:
    """The number of labelled rows of a figure; empty if it was not measured."""
    n = figures.get("labelled", {}).get(task)
    return "" if n is None or figures.get(name) is None else f" (n = {_count(n)})"


def _percent(value: float | None, unit: str = "") -> str:
    return ABSENT if value is None else f"{100 * value:.1f}{unit}"


def _decimal(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
