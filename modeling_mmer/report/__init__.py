"""Reports from measured results: Markdown tables, and the `report.md` beside a run's `results.json`."""

from .tables import (
    confusion_table,
    recall_table,
    results_table,
    retrieval_line,
    write_report,
)

__all__ = ["confusion_table", "recall_table", "results_table", "retrieval_line", "write_report"]
