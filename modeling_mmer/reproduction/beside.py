"""The grids of a report: that of the output folder, and those of other folders beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

from ..model.configuration_mmer import MMERConfig
from ..report.grids import FULL, Grid
from ..report.records import Records, RunRecord
from .material import Material
from .systems import CHOICES, Plan, make_plan


def other_records(folders: Sequence[str], preset: str) -> list[Records]:
    """The records in other output folders of `mmer reproduce`.

    Raises:
        ValueError: a folder has none, or those of a preset that the report has already.
    """
    found: dict[str, Records] = {}
    for folder in folders:
        records = Records(Path(folder))
        if not records.all:
            raise ValueError(
                f"--beside: there are no records of runs in {Path(folder, 'runs')}. Give the --output_dir of an "
                "`mmer reproduce` that has finished a run."
            )
        if records.preset == preset or records.preset in found:
            raise ValueError(
                f"--beside: {folder} has the preset {records.preset}, which the report has already, and its rows could "
                "not be told apart. Give the folder of another preset."
            )
        found[records.preset] = records
    return list(found.values())


def require_same_material(others: Sequence[Records], material: Material) -> None:
    """Raise a ValueError if other records are of another corpus or encoders: rows of one table must be comparable."""
    for records in others:
        for record in first_of_folds(records):
            if record.fold not in material.folds():
                raise ValueError(f"--beside: {records.folder / record.path} is for other folds of the corpus.")
            now = {"content": material.content(record.fold), **material.identities}
            changed = [name for name, value in now.items() if record.settings.get(name) != value]
            if changed:
                what = " and ".join("rows of the corpus" if name == "content" else name for name in changed)
                raise ValueError(
                    f"--beside: {records.folder / record.path} has other {what.replace('_', ' ')} than this command, "
                    "so that its figures cannot stand in the same table. Run that grid again on the same material."
                )


def first_of_folds(records: Records) -> list[RunRecord]:
    """One record for each fold."""
    return list({record.fold: record for record in reversed(records.all)}.values())


def grids(material: Material, plan: Plan, others: Sequence[Records]) -> list[Grid]:
    """The grid of the output folder first."""
    own = Grid(Records(material.folder), plan.tables)
    return [own, *(recorded_grid(records.folder, material.folder) for records in others)]


def recorded_grid(folder: Path, report: Path) -> Grid:
    """The grid of a folder, with the tables of the options in its records, for a report in the folder `report`."""
    records = Records(folder)
    options = (records.of(FULL) or records.all)[0].settings
    tables = make_plan({name: options.get(name, getattr(MMERConfig, name)) for name in CHOICES}).tables
    inside = Path(os.path.relpath(folder, report)).as_posix()
    return Grid(records, tables, "" if inside == "." else f"{inside}/")
