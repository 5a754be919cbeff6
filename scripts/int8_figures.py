"""Measures what int8 weights cost the model that comes with the package: `python scripts/int8_figures.py`.

It exports the model as ONNX graphs with float32 and with int8 weights, judges the test split of RAVDESS (of
`MMER_TEST_DATA`, default: `shared`, next to the checkout) with both, and writes UA of emotion to
`modeling_mmer/released/int8.json`. `mmer export --format onnx --int8` puts the figures in the README of its folder.
Texts are not judged alone: the speakers of RAVDESS say two sentences.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from datasets import Dataset
from released_figures import CORPORA

from modeling_mmer import MMERConfig, MMERProcessor
from modeling_mmer.commands import export
from modeling_mmer.corpora.loading import load_corpora
from modeling_mmer.evaluation.statistics import UNWEIGHTED_ACCURACY
from modeling_mmer.exporting.onnx_folder import INT8_FIGURES
from modeling_mmer.files import write_json

REPOSITORY = Path(__file__).parents[1]
RELEASED = REPOSITORY / "modeling_mmer" / "released"
CORPUS, SPLIT = "ravdess", "test"
COMBINATIONS = ("audio", "audio_text")


def main() -> None:
    rows = labelled_rows(MMERConfig.from_pretrained(RELEASED))
    processor = MMERProcessor.from_pretrained(RELEASED)
    figures: dict[str, dict[str, Any]] = {name: {"n": len(rows)} for name in COMBINATIONS}
    with TemporaryDirectory() as folder:
        for weights, options in (("float32", []), ("int8", ["--int8"])):
            exported = Path(folder) / weights
            export.main([str(RELEASED), "--output_dir", str(exported), "--format", "onnx", *options])
            for name in COMBINATIONS:
                answers = np.array(list(judged(exported / f"{name}.onnx", rows, processor)))
                figures[name][weights] = UNWEIGHTED_ACCURACY(answers, np.array(rows["emotion"][:]))
                print(name, weights, f"{figures[name][weights]:.4f}", flush=True)
    write_json(RELEASED / INT8_FIGURES, {"corpus": CORPUS, "split": SPLIT, "combinations": figures})


def labelled_rows(config: MMERConfig) -> Dataset:
    """The rows of the split whose emotion is one of the model's, its number in `emotion`."""
    data = Path(os.environ.get("MMER_TEST_DATA", REPOSITORY.parent / "shared")) / "data" / CORPUS
    labels = {"emotion_labels": config.emotion_labels, "label_map": dict(CORPORA[CORPUS].label_map)}
    rows = load_corpora("folder", data, **labels, label_scale=config.label_scale).splits[SPLIT]
    names = rows["emotion"][:]
    kept = [index for index, name in enumerate(names) if name in config.emotion_labels]
    numbers = [config.emotion_labels.index(names[index]) for index in kept]
    return rows.select(kept).remove_columns("emotion").add_column("emotion", numbers)


def judged(graph: Path, rows: Dataset, processor: MMERProcessor) -> Iterator[int]:
    """The emotion of each row, its number."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = {of_graph.name for of_graph in session.get_inputs()}
    for row in rows:
        inputs = processor.encode_audio([row["audio"]]) | processor.encode_text([row["text"]])
        (emotion,) = session.run(["emotion"], {name: inputs[name].numpy() for name in names})
        yield int(emotion[0].argmax())


if __name__ == "__main__":
    main()
