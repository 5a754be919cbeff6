"""`mmer export`: a training checkpoint → a folder ready to be pushed, verified by loading it in a fresh process.

Everything is written beside the destination, verified there, and then renamed: a folder that is there is whole and
gives the outputs that it should.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from safetensors.torch import load_file
from transformers import AutoProcessor

from ..files import written_beside
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from ..training.training_corpus import TrainingCorpus
from .arguments import bad_input_ends, parse
from .naming import model_and_options, model_commit, model_folder
from .verification import OUTPUTS, example_outputs

PROG = "mmer export"
USAGE = "MODEL --output_dir DIR [--option value …]"
TOLERANCE = 1e-6  # between the outputs of this process and of a fresh one


@dataclass
class ExportArguments:
    """What is exported, and how."""

    _argument_group_name = "the export"

    output_dir: str = field(metadata={"help": "The folder to write; it must not exist yet, or be empty."})
    form: Literal["light", "self_contained", "as_is"] = field(
        default="as_is", metadata={"help": "light: encoders by name; self_contained: their weights inside."}
    )
    audio_encoder: str | None = field(
        default=None, metadata={"help": "The name of the audio encoder that a self-contained model holds, for light."}
    )
    text_encoder: str | None = field(
        default=None, metadata={"help": "The name of the text encoder that a self-contained model holds, for light."}
    )
    inference_only: bool = field(
        default=False, metadata={"help": "Leave out what inference does not run: the MAE decoders and g."}
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "Precision of the weights."}
    )
    push: str | None = field(default=None, metadata={"help": "A repository on the hub to push to, as owner/name."})
    private: bool = field(default=False, metadata={"help": "Make the repository private, if it is new."})
    revision: str | None = field(default=None, metadata={"help": "The branch to push to; made if it is not there."})


def main(argv: list[str]) -> None:
    name, options = model_and_options(argv, PROG, USAGE)
    (arguments,) = parse((ExportArguments,), options, PROG, USAGE)
    with bad_input_ends(PROG):
        destination = Path(arguments.output_dir)
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise ValueError(f"{destination} is there already: name a folder that is not, or an empty one.")
        # Cast as it is loaded, as it will be from the export: `.to` would cast RoPE's frequencies too.
        commit, dtype = model_commit(name), getattr(torch, arguments.dtype)
        model = MMERForEmotionRecognition.from_pretrained(name, revision=commit, dtype=dtype).eval()
        processor = AutoProcessor.from_pretrained(name, revision=commit)
        prepare(model, arguments)
        deviation = write_verified(model, processor, model_folder(name, commit), destination, arguments.push)
    describe(model, destination, deviation)
    if arguments.push is not None:
        with bad_input_ends(PROG):
            push(destination, arguments)


def prepare(model: MMERForEmotionRecognition, arguments: ExportArguments) -> None:
    """Bring a model into the form to be written.

    Raises:
        ValueError: a light form is asked for of a model whose encoders have no names, or other weights than those of
            the names given, or it is to be pushed though the names are folders of this machine.
    """
    names = (model.config.audio_encoder_name_or_path, model.config.text_encoder_name_or_path)
    if arguments.form == "light" and None in names:
        names = (arguments.audio_encoder, arguments.text_encoder)
        if None in names:
            raise ValueError(
                "This checkpoint is self-contained and does not know its encoders' names: give --audio_encoder and "
                "--text_encoder, or leave out --form."
            )
        model.make_light(*names)
    if arguments.form == "self_contained":
        model.make_self_contained()
    elif None not in names and any(Path(encoder).exists() for encoder in names):
        remedy = f"its encoders are folders of this machine ({', '.join(names)}): export with --form self_contained"
        if arguments.push is not None:
            raise ValueError(f"Nobody else could load the pushed model, as {remedy}.")
        print(f"Only this machine can load the export: {remedy}.")
    if arguments.inference_only:
        model.decoders = model.contrastive_head = None


def write_verified(
    model: MMERForEmotionRecognition, processor: MMERProcessor, source: Path, destination: Path, model_id: str | None
) -> float:
    """Write the folder beside its destination, verify it, rename it; the largest deviation that was found.

    Raises:
        ValueError: the folder does not give this model's outputs; it is then removed.
    """
    with written_beside(destination) as beside:
        model.save_pretrained(beside)
        processor.save_pretrained(beside)
        copy_card(source, beside, model_id or destination.name)
        if (training_corpus := TrainingCorpus.load(source)) is not None:
            training_corpus.save(beside)
        deviation = verify(model, processor, beside)
        if destination.exists():
            destination.rmdir()
    return deviation


def copy_card(source: Path, folder: Path, model_id: str) -> None:
    """Take the card of a run along, under the new name, with its pictures and `results.json`.

    A checkpoint within a run has its card in the run's folder.
    """
    if not (source / "README.md").is_file() and source.name.startswith("checkpoint-"):
        source = source.parent
    if not (source / "README.md").is_file():
        print("There is no card (README.md) beside the model: `mmer train` writes one.")
        return
    card = (source / "README.md").read_text(encoding="utf-8")
    if named := re.search(r"<!-- model: (.+?) -->", card):
        card = renamed(card, named.group(1), model_id)
    (folder / "README.md").write_text(card, encoding="utf-8")
    for extra in [*source.glob("*.png"), source / "results.json"]:
        if extra.is_file():
            shutil.copy(extra, folder)


def renamed(card: str, old: str, new: str) -> str:
    """A card with another name in its title, its `model-index` and its snippets; a corpus may share the old one."""
    old_title, new_title = Path(old).name, Path(new).name
    lines = {
        f"<!-- model: {old} -->": f"<!-- model: {new} -->",
        f"# {old_title}": f"# {new_title}",
        f"- name: {old_title}": f"- name: {new_title}",
    }
    card = "".join(f"{lines.get(line, line)}\n" for line in card.splitlines())
    return card.replace(json.dumps(old), json.dumps(new))


def verify(model: MMERForEmotionRecognition, processor: MMERProcessor, folder: Path) -> float:
    """The largest difference between this model's outputs and those of the folder, loaded as remote code elsewhere.

    Raises:
        ValueError: the folder does not load, or it exceeds the tolerance.
    """
    script = Path(__file__).with_name("verification.py")
    command = [sys.executable, str(script), str(folder.resolve())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"The export does not load in a fresh process:\n{done.stderr.strip()}")
    found, expected = load_file(folder / OUTPUTS), example_outputs(model, processor)
    (folder / OUTPUTS).unlink()
    deviation = max(float((found[name] - expected[name]).abs().max()) for name in expected)
    if not deviation <= TOLERANCE:
        raise ValueError(f"The export gives other outputs than the model (by up to {deviation:.2g}); nothing is kept.")
    return deviation


def describe(model: MMERForEmotionRecognition, folder: Path, deviation: float) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    form = "self-contained" if model.config.audio_encoder_name_or_path is None else "light (encoders by name)"
    print(f"{folder}: {form}, {model.dtype}, {size:.1f} MB; a fresh process gives its outputs to {deviation:.1g}.")
    if model.contrastive_head is None:
        print("Without decoders and g: it can be fine-tuned with their λ at 0, and gives no embeddings.")
    print(f'Load it: pipeline("multimodal-emotion-recognition", model="{folder}", trust_remote_code=True)')


def push(folder: Path, arguments: ExportArguments) -> None:
    """Upload the folder as one commit.

    Raises:
        ValueError: the hub refuses; the folder stays.
    """
    api = HfApi()
    try:
        repository = api.create_repo(arguments.push, private=arguments.private, exist_ok=True).repo_id
        if arguments.revision is not None:
            api.create_branch(repository, branch=arguments.revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=folder, revision=arguments.revision, commit_message="Upload MMER"
        )
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise ValueError(
            f"The hub refused ({error}). `hf auth login` gives a token; the export is in {folder}."
        ) from error
    print(f"Pushed: {commit.commit_url}")
