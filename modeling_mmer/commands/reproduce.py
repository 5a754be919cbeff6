"""`mmer reproduce`: the paper's tables on any corpus, every rival trained on the same frozen states."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..report.reproduction import write_reproduction
from ..reproduction.grid import tasks, work_through
from ..reproduction.material import Material
from ..reproduction.systems import chosen_runs, plan
from ..training.arguments import CorpusArguments, RunArguments
from ..training.presets import Preset
from .allocator import keep_freed_memory
from .arguments import ModelArguments, bad_input_ends, parse, with_recipe
from .naming import encoder_commits

PROG = "mmer reproduce"


@dataclass
class GridArguments:
    """Which runs are made, and over which encoders."""

    _argument_group_name = "the grid"

    seeds: int = field(default=1, metadata={"help": "Seeds of each run, from 0; more can be added on another day."})
    only: list[str] | None = field(
        default=None,
        metadata={
            "help": "Rows of the tables by name (probe, shared, contr_mae …), or table1, table2, table3, choices."
        },
    )
    audio_encoder: str = field(
        default="openai/whisper-medium", metadata={"help": "Frozen audio encoder: a hub name or a folder."}
    )
    text_encoder: str = field(
        default="FacebookAI/roberta-large", metadata={"help": "Frozen text encoder: a hub name or a folder."}
    )
    preset: Preset = field(
        default="paper",
        metadata={
            "help": "Choices of all rows where the recipe and the command line say nothing: Table 1 of the paper, or "
            "what wins on small corpora (recommended)."
        },
    )


ARGUMENTS = (GridArguments, CorpusArguments, ModelArguments, RunArguments)


def main(argv: list[str]) -> None:
    """Do the runs that are not done yet, and write the report of all that are."""
    argv = with_recipe(argv, PROG)
    grid_arguments, corpus_arguments, model_arguments, run = parse(ARGUMENTS, argv, PROG)
    keep_freed_memory()
    with bad_input_ends(PROG):
        check(grid_arguments, corpus_arguments, run)
        folder = Path(run.output_dir)
        encoders = (grid_arguments.audio_encoder, grid_arguments.text_encoder)
        options = vars(model_arguments)
        options |= encoder_commits(encoders, options)  # all runs are over the same weights
        if corpus_arguments.cache_layers is not None:
            options |= dict.fromkeys(("audio_layers", "text_layers"), corpus_arguments.cache_layers)
        material = Material(corpus_arguments, encoders, options, run, folder)
        of_plan = plan(options)
        grid = tasks(chosen_runs(of_plan, grid_arguments.only), grid_arguments.seeds, material.folds())
        failed = work_through(grid, of_plan, material)
        write_reproduction(folder, of_plan.tables, material.corpus(material.folds()[0]).name)
    print(f"\nTables: {folder / 'README.md'} and {folder / 'index.html'}")
    if failed:
        raise SystemExit(f"{PROG}: {len(failed)} runs have no figures, for they diverged: {', '.join(failed)}.")


def check(grid: GridArguments, corpus: CorpusArguments, run: RunArguments) -> None:
    """Raise a ValueError if the options make no grid."""
    if grid.seeds < 1:
        raise ValueError(f"--seeds takes a number of seeds, not {grid.seeds}.")
    if corpus.feature_cache is None:
        raise ValueError("Name a folder for the encoders' states with --feature_cache: every run reads them.")
    if run.world_size > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "Runs are small and many: start one `mmer reproduce` for each device (CUDA_VISIBLE_DEVICES=0, 1, …) on the "
            "same --output_dir, and they share the runs, instead of launching one over several."
        )
