"""Reports from measured results: tables, pictures, the `report.md` beside a run's `results.json`, the model card."""

from .card import Provenance, write_card
from .plots import CurvesCallback
from .tables import caveats_list, confusion_table, recall_table, results_table, retrieval_line, write_report

__all__ = [
    "CurvesCallback",
    "Provenance",
    "caveats_list",
    "confusion_table",
    "recall_table",
    "results_table",
    "retrieval_line",
    "write_card",
    "write_report",
]
