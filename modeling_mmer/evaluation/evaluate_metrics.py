"""The metrics of `metrics.py` as `evaluate.Metric` classes, for use with Hugging Face `evaluate`.

    >>> CCC().compute(predictions=[1.0, 2.0, 3.0], references=[1.0, 2.0, 4.0])
    {'ccc': 0.8571428571428572}

They only add the interface (`compute`, `add`, `add_batch`, several processes). A figure that cannot be measured is
absent from the returned dict. They are in a separate module because `import evaluate` takes seconds.
"""

from collections.abc import Callable
from typing import Any

import datasets
import evaluate

from .metrics import (
    ccc,
    collapse_distance,
    macro_f1,
    mean_of_present,
    retrieval_accuracy,
    unweighted_accuracy,
    vote_divergence,
)


class _Metric(evaluate.Metric):
    """Common base: `_info` from the docstring and two class attributes; a `measure` of predictions and references."""

    inputs: str
    columns: dict[str, Any]
    measure: tuple[str, Callable[..., float | None]]  # its name in the returned dict, and the function

    def _info(self) -> evaluate.MetricInfo:
        plain = all(isinstance(feature, datasets.Value) for feature in self.columns.values())
        return evaluate.MetricInfo(
            description=" ".join((type(self).__doc__ or "").split()),
            citation="",
            inputs_description=self.inputs,
            features=datasets.Features(self.columns),
            format="numpy" if plain else None,  # evaluate supports it for plain columns only
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        name, function = self.measure
        value = function(predictions, references)
        return {} if value is None else {name: value}


_CLASSES = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
_CLASS_INPUTS = "Class ids; a reference of -100 means not labelled."
_VECTOR = datasets.List(datasets.Value("float64"))


class UnweightedAccuracy(_Metric):
    """Mean recall over the classes that occur in the references, as `{"ua": …}`."""

    inputs, columns, measure = _CLASS_INPUTS, _CLASSES, ("ua", unweighted_accuracy)


class MacroF1(_Metric):
    """Unweighted mean of F1 over the classes in references or predictions, as `{"macro_f1": …}`."""

    inputs, columns, measure = _CLASS_INPUTS, _CLASSES, ("macro_f1", macro_f1)


class CCC(_Metric):
    """Lin's concordance correlation coefficient with population moments, as `{"ccc": …}`."""

    inputs = "Numbers on one scale; a reference of NaN means not labelled."
    columns = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
    measure = ("ccc", ccc)


class VoteDivergence(_Metric):
    """Mean Jensen–Shannon divergence between predicted and voted distributions, as `{"jsd": …}`."""

    inputs = "predictions: probabilities (n, classes); references: votes (n, classes), all zero where there are none."
    columns = {"predictions": _VECTOR, "references": _VECTOR}
    measure = ("jsd", vote_divergence)


class RetrievalAccuracy(_Metric):
    """Share of utterances whose largest inner product among `group_size` (32) is with their own partner."""

    inputs = "predictions: audio embeddings (n, d); references: text embeddings (n, d)."
    columns = {"predictions": _VECTOR, "references": _VECTOR}

    def _compute(self, predictions: Any, references: Any, group_size: int = 32) -> dict[str, float]:
        return retrieval_accuracy(predictions, references, group_size) or {}


class CollapseDistance(_Metric):
    """Largest pair-wise distance among one utterance's embeddings, averaged over utterances, as `{"collapse": …}`."""

    inputs = "predictions: one (positions, d) list of embeddings per utterance. There are no references."
    columns = {"predictions": datasets.List(_VECTOR)}

    def _compute(self, predictions: Any) -> dict[str, float]:
        mean = mean_of_present(collapse_distance(utterance) for utterance in predictions)
        return {} if mean is None else {"collapse": mean}
