"""The systems of the tables: each row names the runs that its figures come from.

A run trains one model. A row may need several runs (three separate models), and rows may share a run: the first row of
Table 3 is the Shared Transformer of Table 1. Each run is trained once per seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.configuration_mmer import COMBINATIONS

SUPERVISED = {"lambda_mae": 0, "lambda_contrastive": 0}
RIVAL = {**SUPERVISED, "state_heads": False}  # what is ours alone
CONTRASTIVE = {"lambda_mae": 0}
AUTOENCODING = {"lambda_contrastive": 0}


@dataclass(frozen=True)
class Run:
    """The training of one model, for any seed and corpus.

    Args:
        name: name of the run and its files.
        system: the kind of model, a key of `models.SYSTEMS`.
        overrides: config fields that differ from the options of the command.
        combination: the combination of modalities of a separate model.
        needs: names of runs whose models it starts from.
        epochs: number of epochs; None: that of the options; 0: the model is evaluated as initialised.
        longer: how many times as long as the others it trains, and waits for a better epoch.
    """

    name: str
    system: str = "mmer"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    combination: str | None = None
    needs: tuple[str, ...] = ()
    epochs: int | None = None
    longer: int = 1


@dataclass(frozen=True)
class Row:
    """A row of a table: its name for `--only`, its title, the run with its figures for each combination, and the number
    of models that a deployment for all combinations needs. The name is that of its run if it has only one."""

    name: str
    title: str
    runs: Mapping[str, str]
    models: int = 1


def same_run(run: str) -> dict[str, str]:
    return dict.fromkeys(COMBINATIONS, run)


SEPARATE = {combination: f"separate_{combination}" for combination in COMBINATIONS}

RUNS = {
    run.name: run
    for run in (
        Run("probe", "probe", longer=4),  # a floor has to be trained to its end, and its epochs are short
        Run("cascade", "cascade"),
        *(Run(name, "separate", combination=combination) for combination, name in SEPARATE.items()),
        Run("late_fusion", "late_fusion", needs=("separate_audio", "separate_text")),
        Run("cif_mmin_teacher", "cif_mmin_teacher"),
        Run("cif_mmin", "cif_mmin", needs=("cif_mmin_teacher",)),
        Run("shared", overrides=SUPERVISED),
        Run("contr", overrides=CONTRASTIVE),
        Run("mae", overrides=AUTOENCODING),
        Run("contr_mae"),
        Run("standardized", overrides={"state_normalization": "standardize"}),
        Run("random_init", epochs=0),
        Run("projected", overrides=AUTOENCODING | {"mae_target": "projected"}),
        Run("without_g", overrides=CONTRASTIVE | {"contrastive_projection": False}),
        Run("absolute", overrides=CONTRASTIVE | {"position_type": "sinusoidal"}),
    )
}

TABLE_1 = (
    Row("probe", "Linear probe (the floor)", same_run("probe"), models=3),
    Row("cif_mmin", "CIF-MMIN", same_run("cif_mmin")),
    Row("cascade", "Cascade", same_run("cascade"), models=3),
    Row("separate", "Separate models", SEPARATE, models=3),
    Row("late_fusion", "Late fusion", {**SEPARATE, "audio_text": "late_fusion"}, models=3),
    Row("shared", "Shared Transformer", same_run("shared")),
    Row("contr", "+ contr", same_run("contr")),
    Row("mae", "+ MAE", same_run("mae")),
    Row("contr_mae", "+ contr + MAE", same_run("contr_mae")),
    Row("standardized", "+ contr + MAE, states standardised (ours)", same_run("standardized")),
)
TABLE_2 = (
    Row("random_init", "random init", same_run("random_init")),
    Row("projected", "projected (h)", same_run("projected")),
    Row("mae", "original (H)", same_run("mae")),
)
TABLE_3 = (
    Row("shared", "RoPE w/o contr", same_run("shared")),
    Row("without_g", "RoPE w/o g", same_run("without_g")),
    Row("absolute", "Absolute PE", same_run("absolute")),
    Row("contr", "RoPE", same_run("contr")),
)

# Choices around the full objective: config field → title, and the values to compare.
CHOICES = {
    "num_hidden_layers": ("layers", (2, 4, 8)),
    "mae_upsampling": ("up-sampling of audio", ("transposed", "linear")),
    "contrastive_form": ("form of Eq. 6", ("softmax", "ratio")),
    "dropout": ("dropout", (0.1, 0.3, 0.5)),
    "audio_context": ("audio context", ("full", "trimmed")),
    "state_normalization": ("states", ("none", "standardize")),
    "readout": ("heads read", ("cls", "mean", "attention")),
    "lambda_mae": ("λ_MAE", (1, 10)),
    "lambda_contrastive": ("λ_C", (0.1, 1)),
}
BASE = "contr_mae"


def choices(options: Mapping[str, Any]) -> tuple[tuple[Row, ...], dict[str, Run]]:
    """The rows of the choices and their runs. The value of the options is the full objective itself."""
    rows, runs = [], {}
    for name, (title, values) in CHOICES.items():
        for value in dict.fromkeys([*values, options[name]]):
            run = BASE if value == options[name] else f"{name}_{value}"
            if (name, value) == ("state_normalization", "standardize") and run != BASE:
                run = "standardized"
            elif run != BASE:
                runs[run] = Run(run, overrides={name: value})
            rows.append(Row(run, f"{title}: {value}", same_run(run)))
    return tuple(rows), runs


@dataclass(frozen=True)
class Plan:
    """All tables with their rows, and all runs by name."""

    tables: Mapping[str, tuple[Row, ...]]
    runs: Mapping[str, Run]


def make_plan(options: Mapping[str, Any]) -> Plan:
    """All tables for the options of a command (config fields). Where these standardise the states of every row, the
    full objective is the row that has them standardised."""
    rows, runs = choices(options)
    table_1 = [row for row in TABLE_1 if row.name != "standardized" or options["state_normalization"] == "none"]
    tables = {"table1": tuple(table_1), "table2": TABLE_2, "table3": TABLE_3, "choices": rows}
    return Plan(tables, RUNS | runs)


def chosen_runs(plan: Plan, only: list[str] | None) -> list[Run]:
    """The selected runs, each after those that it starts from. `only` lists rows or tables; None selects all.

    Raises:
        ValueError: a row or table does not exist.
    """
    rows = {row.name: row for table in plan.tables.values() for row in table}
    wanted: dict[str, None] = {}
    for name in only or plan.tables:
        if name not in plan.tables and name not in rows:
            known = ", ".join([*plan.tables, *rows])
            raise ValueError(f"--only: there is no row or table {name}. Choose from: {known}.")
        for row in plan.tables.get(name) or (rows[name],):
            for run in row.runs.values():
                wanted |= dict.fromkeys([*plan.runs[run].needs, run])
    return [plan.runs[name] for name in wanted]
