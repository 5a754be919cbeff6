"""What each system got: its options, epochs and seeds; and what the runs took."""

from collections.abc import Mapping, Sequence
from typing import Any

from .cells import Cell, Group, Section, plain
from .grids import FULL, Grid, System
from .records import RunRecord
from .tables import ABSENT

# What some systems have whatever the options say (see `baselines/`).
OWN = {
    "probe": {"states": "standardised", "heads read": "mean of states", "dropout": "none"},
    "cif_mmin_teacher": {"heads read": "its own", "dropout": "its own"},
    "cif_mmin": {"heads read": "its own", "dropout": "its own"},
}
STATES = {"none": "raw", "standardize": "standardised"}
READOUTS = {"cls": "CLS", "mean": "CLS, mean of tokens", "attention": "CLS, attention over tokens"}
BUDGET = ("states", "heads read", "dropout", "learning rate", "batch", "epochs", "seeds")


def budgets(grids: Sequence[Grid]) -> Section | None:
    """The systems of Table 1 by what they got."""
    groups = []
    for grid in grids:
        systems: dict[tuple[str, ...], list[str]] = {}
        for system in grid.systems("table1"):
            if system.seeds():
                systems.setdefault(budget(system), []).append(system.title)
        rows = [[Cell(", ".join(titles)), *map(Cell, values)] for values, titles in systems.items()]
        groups.append(Group(grid.name if len(grids) > 1 else "", rows))
    groups = [group for group in groups if group.rows]
    text = (
        "Nothing was searched for any row: within a grid all have the same options, except for what defines them. "
        "Epochs: those trained, of at most how many; fewer if training stopped early."
    )
    if all(record.settings.get("load_best_model_at_end", True) for grid in grids for record in grid.records.all):
        text += " Each run is judged after its best epoch on validation."
    if differences := between_presets(grids):
        text += f" {differences}"
    return Section("What each system got", text=text, header=["Systems", *BUDGET], groups=groups) if groups else None


def budget(system: System) -> tuple[str, ...]:
    """What the runs of a row got, in the order of `BUDGET`. Where they differ, all values are named."""
    records = [record for run in system.runs for record in system.grid.records.counted(run)]
    got = [got_by(record.settings) for record in records]
    shown = [" or ".join(dict.fromkeys(of_run[name] for of_run in got)) for name in BUDGET[:5]]
    return (*shown, epochs_of(records), str(len(system.seeds())))


def got_by(settings: Mapping[str, Any]) -> dict[str, str]:
    """The options of a run in words, from the settings in its record."""
    return {
        "states": STATES.get(settings.get("state_normalization"), ABSENT),
        "heads read": READOUTS[settings.get("readout", "cls")] if settings else ABSENT,
        "dropout": f"{settings.get('dropout', ABSENT)}",
        "learning rate": f"{settings['learning_rate']:g}" if "learning_rate" in settings else ABSENT,
        "batch": f"{settings.get('per_device_train_batch_size', ABSENT)}",
    } | OWN.get(settings.get("system"), {})


def epochs_of(records: Sequence[RunRecord]) -> str:
    """`6 of 6` or `13–24 of 24`."""
    trained = sorted({round(record.epochs) for record in records if record.epochs is not None})
    most = {round(epochs) for record in records if (epochs := record.settings.get("num_train_epochs"))}
    if not trained:
        return ABSENT
    span = "–".join(map(str, dict.fromkeys((trained[0], trained[-1]))))
    return f"{span} of {max(most)}" if most else span


def between_presets(grids: Sequence[Grid]) -> str:
    """A sentence: the options in which the full objective of the first grid differs from those of the others."""
    of_grids = {grid.name: grid.records.counted(FULL) for grid in grids}
    settings = {name: records[0].settings for name, records in of_grids.items() if records}
    if len(settings) < 2:
        return ""
    (name, ours), *others = settings.items()
    parts = []
    for other, theirs in others:
        changed = [option for option in {**theirs, **ours} if theirs.get(option) != ours.get(option)]
        options = [f"`{o}` {words(ours.get(o))} ({words(theirs.get(o))})" for o in changed]
        parts.append(f"The options of {name} that differ from those of {other}, in brackets: {', '.join(options)}.")
    return " ".join(parts)


def words(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def costs(grids: Sequence[Grid]) -> Section | None:
    """The time that the runs took, and their records."""
    records = [(grid, record) for grid in grids for record in grid.records.all]
    if not records:
        return None
    machines = {(*record.machine["devices"], record.machine["threads"]) for _, record in records}
    kinds = ", ".join(sorted(f"{' and '.join(devices)} ({threads} threads)" for *devices, threads in machines))
    commands = "\n".join(f"    {command}" for command in dict.fromkeys(record.command for _, record in records))
    hours = sum(grid.records.seconds() for grid in grids) / 3600
    text = (
        f"{len(records)} runs took {hours:.1f} h in total on {kinds}, with cached encoder states. Commands:"
        f"\n\n{commands}"
    )
    body = [
        [
            *([grid.name] * (len(grids) > 1)),
            record.run,
            record.seed,
            ABSENT if record.fold is None else record.fold,
            ABSENT if record.epochs is None else f"{record.epochs:.0f}",
            f"{sum(record.seconds.values()):.0f}",
            f"{record.trainable_parameters:,}",
            Cell("record" if record.measured else "diverged", f"{grid.prefix}{record.path}"),
        ]
        for grid, record in records
    ]
    header = ["run", "seed", "fold", "epochs", "seconds", "trained parameters", ""]
    return Section("Runs", text=text, **plain([*(["preset"] * (len(grids) > 1)), *header], body), folded=True)
