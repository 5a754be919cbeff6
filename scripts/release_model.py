"""Make the model that comes with the package, from nothing: `python scripts/release_model.py`.

It needs the corpora of `MMER_TEST_DATA` (default: `shared`, next to the checkout), and loads the encoders by name, from
the hub or its cache. Steps:

1. `mmer train recipes/released.yaml`
2. `mmer reproduce` of the linear probe, on the same rows: the floor
3. the figures of both on the test splits (`released_figures.py`)
4. `mmer export`, without code and without what only training needs; card and licence → `modeling_mmer/released`

A step that is finished is not repeated, so that a stopped run can be started again.
"""

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from released_card import write_released_card
from released_figures import judge

import modeling_mmer
from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERProcessor
from modeling_mmer.baselines import LinearProbe
from modeling_mmer.commands import export, reproduce, train
from modeling_mmer.commands.arguments import recipe_options
from modeling_mmer.files import write_json, written_beside

REPOSITORY = Path(__file__).parents[1]
RECIPE = REPOSITORY / "recipes" / "released.yaml"
LICENSE = REPOSITORY / "model_cards" / "released_LICENSE.txt"
RELEASED = REPOSITORY / "modeling_mmer" / "released"
RUNS = REPOSITORY / "runs"
FLOOR_EPOCHS = 12
# Places of this machine: a commit of a local cache is no one's.
NOT_RELEASED = ("audio_encoder_revision", "text_encoder_revision", "local_files_only")
CODE = ("auto_map", "custom_pipelines")  # where a folder has its code: nowhere, for the package has it


def main() -> None:
    trained, floor = RUNS / "released", RUNS / "released_floor"
    train.main([str(RECIPE), "--output_dir", str(trained)], skip_finished=True)
    options = ["--only", "probe", "--num_train_epochs", str(FLOOR_EPOCHS), "--output_dir", str(floor)]
    reproduce.main([str(RECIPE), *options])
    release(trained, floor / "models" / "probe-seed-0")


def release(trained: Path, floor: Path) -> None:
    """Judge a trained model and the floor, and write `modeling_mmer/released`."""
    figures = read_or_judge(trained, floor)
    with written_beside(RELEASED) as beside:
        export.main([str(trained), "--form", "light", "--inference_only", "--output_dir", str(beside)])
        strip(beside)
        write_json(beside / "figures.json", figures)
        shutil.copy(LICENSE, beside / "LICENSE")
        write_released_card(beside, figures, MMERConfig.from_pretrained(beside), told(trained))
        shutil.rmtree(RELEASED, ignore_errors=True)
    print(f"{RELEASED}: {sum(path.stat().st_size for path in RELEASED.iterdir()) / 1e6:.1f} MB")


def read_or_judge(trained: Path, floor: Path) -> dict[str, Any]:
    """The figures, from `figures.json` of the trained model if they are there."""
    stored = trained / "figures.json"
    if not stored.is_file():
        model = MMERForEmotionRecognition.from_pretrained(trained, with_encoders=False)
        processor = MMERProcessor.from_pretrained(trained)
        probe = LinearProbe.from_pretrained(floor, with_encoders=False)
        data = Path(os.environ["MMER_TEST_DATA"]) / "data"  # set by the recipe, if it was not
        corpora = judge(model, probe, processor, data, Path(option("feature_cache")))
        write_json(stored, {"corpora": corpora, "versions": versions()})
    return json.loads(stored.read_text(encoding="utf-8"))


def option(name: str) -> str:
    """The value of an option of the recipe."""
    words = recipe_options(RECIPE, "release_model.py")
    return words[words.index(f"--{name}") + 1]


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "modeling-mmer": modeling_mmer.__version__,
    }


def strip(folder: Path) -> None:
    """Remove the code and pictures of an export, and what its JSON files say of them and of this machine."""
    kept = {"config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
    kept.add("training_corpus.json")
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        write_json(folder / name, without(json.loads((folder / name).read_text(encoding="utf-8"))))


def without(content: Any) -> Any:
    """The same without the fields that are not released, at any depth, and without places of code."""
    if not isinstance(content, dict):
        return content
    kept = {name: without(value) for name, value in content.items() if name not in NOT_RELEASED}
    return kept | {name: {} for name in CODE if name in kept}


def told(trained: Path) -> dict[str, str]:
    """What the card says in words of the run."""
    results = json.loads((trained / "results.json").read_text(encoding="utf-8"))
    of = json.loads((trained / "figures.json").read_text(encoding="utf-8"))["versions"]
    training = f"{results['trainable_parameters']:,} trained parameters, seed {results['seed']}, "
    return {
        "floor": f"{FLOOR_EPOCHS} epochs, the best one by validation",
        "versions": "Versions: " + ", ".join(f"{name} {version}" for name, version in of.items()),
        "training": f"{training}{option('num_train_epochs')} epochs, of which the best one by validation is kept.",
    }


if __name__ == "__main__":
    main()
