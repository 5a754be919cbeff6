"""Reports on measured results: tables, plots, the `report.md` of a run and its model card."""

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
