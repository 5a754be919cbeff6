"""Reports on measured results: tables, plots, the `report.md` of a run and its model card."""
