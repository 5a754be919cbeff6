"""`mmer reproduce`: the paper's tables on any corpus. All systems are trained on the same frozen encoder states."""

import os
from dataclasses import dataclass
from pathlib import Path

from transformers.hf_argparser import HfArg

from ..corpora.schema import counted
from ..report.reproduction import write_reproduction
from ..reproduction.beside import grids, other_records, require_same_material
from ..reproduction.grid import run_grid, tasks
from ..reproduction.material import Material
from ..reproduction.systems import chosen_runs, make_plan
from ..training.arguments import CorpusArguments, RunArguments
from ..training.presets import Preset
from .allocator import keep_freed_memory
from .arguments import EncoderArguments, ModelArguments, exit_on_bad_input, expand_recipe, parse
from .naming import encoder_commits

PROG = "mmer reproduce"


@dataclass
class GridArguments(EncoderArguments):
    """Which systems are trained, with how many seeds, on which encoders."""

    _argument_group_name = "the experiments"

    seeds: int = HfArg(default=1, help="Number of seeds per system, from 0. More can be added later.")
    only: list[str] | None = HfArg(
        default=None,
        help="Rows of the tables to train (probe, shared, contr_mae …), or table1, table2, table3, choices.",
    )
    preset: Preset = HfArg(
        default="paper",
        help="Options of all rows unless the recipe or the command line sets them: paper or recommended.",
    )
    beside: list[str] | None = HfArg(
        default=None,
        help="Output folders of other grids on the same corpus and encoders, such as that of the other preset. The "
        "report shows their rows beside these, and compares them with the full objective of this one.",
    )


ARGUMENTS = (GridArguments, CorpusArguments, ModelArguments, RunArguments)


def main(argv: list[str]) -> None:
    """Train what is not finished yet, and write the report of all finished runs."""
    argv = expand_recipe(argv, PROG)
    grid_arguments, corpus_arguments, model_arguments, run = parse(ARGUMENTS, argv, PROG)
    keep_freed_memory()
    with exit_on_bad_input(PROG):
        check(grid_arguments, corpus_arguments, run)
        folder = Path(run.output_dir)
        encoders = (grid_arguments.audio_encoder, grid_arguments.text_encoder)
        options = vars(model_arguments)
        options |= encoder_commits(encoders, options)  # so that all runs use the same encoder weights
        if corpus_arguments.cache_layers is not None:
            options |= dict.fromkeys(("audio_layers", "text_layers"), corpus_arguments.cache_layers)
        material = Material(corpus_arguments, encoders, options, run, folder, grid_arguments.preset)
        plan = make_plan(options)
        grid = tasks(chosen_runs(plan, grid_arguments.only), grid_arguments.seeds, material.folds())
        others = other_records(grid_arguments.beside or [], grid_arguments.preset)
        require_same_material(others, material)
        failed = run_grid(grid, plan, material)
        write_reproduction(folder, grids(material, plan, others), material.corpus(material.folds()[0]).name)
    print(f"\nTables: {folder / 'README.md'} and {folder / 'index.html'}")
    if failed:
        n_failed = counted(len(failed), "run has", "runs have")
        raise SystemExit(f"{PROG}: {n_failed} no figures because training diverged: {', '.join(failed)}.")


def check(grid: GridArguments, corpus: CorpusArguments, run: RunArguments) -> None:
    """Raise a ValueError if the options cannot be used together."""
    if grid.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, not {grid.seeds}.")
    if corpus.feature_cache is None:
        raise ValueError("Give a folder for the encoder states with --feature_cache: all runs read them.")
    if run.world_size > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "A run uses a single device: instead of launching one command on several, start one `mmer reproduce` per "
            "device (CUDA_VISIBLE_DEVICES=0, 1, …) with the same --output_dir. They share the runs."
        )
