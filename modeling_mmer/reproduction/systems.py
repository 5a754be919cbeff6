"""Which models the tables are made of: a row of a table names the runs that its figures come from.

A run is one training. A row may need several (three separate models), and a run may serve several rows: Table 3's first
row is the Shared Transformer of Table 1. So every run is done once for each seed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.configuration_mmer import COMBINATIONS

SUPERVISED = {"lambda_mae": 0, "lambda_contrastive": 0}
CONTRASTIVE = {"lambda_mae": 0}
AUTOENCODING = {"lambda_contrastive": 0}


@dataclass(frozen=True)
class Run:
    """One training, whose seed and corpus are still to be named.

    Args:
        name: of its files, too.
        system: what is trained, a key of `models.BUILDERS`.
        overrides: fields of the model's config in which it differs from the options of the command.
        combination: the one that a separate model is for.
        needs: runs whose models it starts from.
        epochs: None: those of the options; 0: the model is judged as it was initialised.
    """

    name: str
    system: str = "mmer"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    combination: str | None = None
    needs: tuple[str, ...] = ()
    epochs: int | None = None


@dataclass(frozen=True)
class Row:
    """A row of a table: its title, the models that a deployment needs, and the run for each combination's figures.

    `name` is what `--only` calls it; that of a run if there is only one.
    """

    name: str
    title: str
    runs: Mapping[str, str]
    models: int = 1


def of_one(run: str) -> dict[str, str]:
    return dict.fromkeys(COMBINATIONS, run)


SEPARATE = {combination: f"separate_{combination}" for combination in COMBINATIONS}

RUNS = {
    run.name: run
    for run in (
        Run("probe", "probe"),
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
    Row("probe", "Linear probe (the floor)", of_one("probe"), models=3),
    Row("cif_mmin", "CIF-MMIN", of_one("cif_mmin")),
    Row("cascade", "Cascade", of_one("cascade"), models=3),
    Row("separate", "Separate models", SEPARATE, models=3),
    Row("late_fusion", "Late fusion", {**SEPARATE, "audio_text": "late_fusion"}, models=3),
    Row("shared", "Shared Transformer", of_one("shared")),
    Row("contr", "+ contr", of_one("contr")),
    Row("mae", "+ MAE", of_one("mae")),
    Row("contr_mae", "+ contr + MAE", of_one("contr_mae")),
    Row("standardized", "+ contr + MAE, states standardised (ours)", of_one("standardized")),
)
TABLE_2 = (
    Row("random_init", "random init", of_one("random_init")),
    Row("projected", "projected (h)", of_one("projected")),
    Row("mae", "original (H)", of_one("mae")),
)
TABLE_3 = (
    Row("shared", "RoPE w/o contr", of_one("shared")),
    Row("without_g", "RoPE w/o g", of_one("without_g")),
    Row("absolute", "Absolute PE", of_one("absolute")),
    Row("contr", "RoPE", of_one("contr")),
)

# The choices around the full objective: field of the config → title, and the values that are tried.
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
    """The rows of the choices, and their runs; what the options have already is the full objective itself."""
    rows, runs = [], {}
    for name, (title, values) in CHOICES.items():
        for value in dict.fromkeys([*values, options[name]]):
            run = BASE if value == options[name] else f"{name}_{value}"
            if (name, value) == ("state_normalization", "standardize") and run != BASE:
                run = "standardized"
            elif run != BASE:
                runs[run] = Run(run, overrides={name: value})
            rows.append(Row(run, f"{title}: {value}", of_one(run)))
    return tuple(rows), runs


@dataclass(frozen=True)
class Plan:
    """The tables, each with its rows, and all runs by name."""

    tables: Mapping[str, tuple[Row, ...]]
    runs: Mapping[str, Run]


def plan(options: Mapping[str, Any]) -> Plan:
    """All tables under the options of a command, the fields of the model's config."""
    rows, runs = choices(options)
    tables = {"table1": TABLE_1, "table2": TABLE_2, "table3": TABLE_3, "choices": rows}
    return Plan(tables, RUNS | runs)


def chosen_runs(of_plan: Plan, only: list[str] | None) -> list[Run]:
    """The runs to be done, each after those that it needs; `only` names rows, or whole tables.

    Raises:
        ValueError: there is no such row or table.
    """
    rows = {row.name: row for table in of_plan.tables.values() for row in table}
    wanted: dict[str, None] = {}
    for name in only or of_plan.tables:
        if name not in of_plan.tables and name not in rows:
            known = ", ".join([*of_plan.tables, *rows])
            raise ValueError(f"--only names rows or tables, and {name} is none. There are: {known}.")
        for row in of_plan.tables.get(name) or (rows[name],):
            for run in row.runs.values():
                wanted |= dict.fromkeys([*of_plan.runs[run].needs, run])
    return [of_plan.runs[name] for name in wanted]
