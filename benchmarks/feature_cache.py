"""Cost of an epoch from cached encoder states, compared with running the encoders.

Trains a recipe (by default `spoken_full.yaml`, the full objective) on the same few batches in rounds: from the cache,
online with trimmed clips, and online with Whisper's full window of 30 s. The fastest round of each counts, because
other processes slow down single rounds. The batches are drawn like those of an epoch, so the ratios hold for an epoch.
The time to extract the states is not included.

    python benchmarks/feature_cache.py [recipes/spoken_full.yaml] [--option value]
"""

import sys
import tempfile
import time
from pathlib import Path

from modeling_mmer.commands.allocator import keep_freed_memory
from modeling_mmer.commands.arguments import expand_recipe, parse
from modeling_mmer.commands.train import ARGUMENTS, prepare
from modeling_mmer.training.trainer import MMERTrainer

STEPS, ROUNDS = 6, 3
RECIPE = str(Path(__file__).parent.parent / "recipes" / "spoken_full.yaml")
VARIANTS = {
    "from the cache": ["--audio_context", "trimmed"],
    "online, trimmed": ["--audio_context", "trimmed"],
    "online, full": ["--audio_context", "full"],
}


def trainer_of(variant: str, argv: list[str], folder: str) -> MMERTrainer:
    """A trainer of `STEPS` batches, the same ones for every variant."""
    argv = expand_recipe(argv, "benchmark")
    argv += [*VARIANTS[variant], "--output_dir", folder, "--max_steps", str(STEPS), "--data_seed", "0"]
    argv += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    argv += ["--report_to", "none", "--disable_tqdm", "true", "--logging_steps", "1000"]
    arguments = parse(ARGUMENTS, argv, "benchmark")
    arguments[0].feature_cache = folder if variant == "from the cache" else None
    trainer, _ = prepare(argv, *arguments)
    return trainer


def seconds(trainer: MMERTrainer) -> float:
    start = time.perf_counter()
    trainer.train()
    return time.perf_counter() - start


def main(argv: list[str]) -> None:
    argv = argv if argv and argv[0].endswith(".yaml") else [RECIPE, *argv]
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        trainers = {variant: trainer_of(variant, argv, folder) for variant in VARIANTS}
        best = dict.fromkeys(VARIANTS, float("inf"))
        for _ in range(ROUNDS):
            for variant, trainer in trainers.items():
                best[variant] = min(best[variant], seconds(trainer))
    print(f"Time of {STEPS} training steps of {argv[0]}, relative to the first line:\n")
    for variant, of_variant in best.items():
        print(f"{variant:20}{of_variant / best['from the cache']:7.1f}   ({of_variant / STEPS:.2f} s a step)")


if __name__ == "__main__":
    main(sys.argv[1:])
