"""`mmer export`: convert a checkpoint to a folder that can be published, and verify it in a fresh process.

The export is written next to the destination, verified, and then renamed. An existing destination is therefore complete
and gives the outputs of the model.
"""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from safetensors.torch import load_file
from transformers import AutoProcessor
from transformers.hf_argparser import HfArg

from ..exporting.endpoint import write_endpoint
from ..exporting.onnx_folder import require_libraries, write_onnx
from ..files import written_beside
from ..model.modeling_mmer import MMERForEmotionRecognition
from ..model.processing_mmer import MMERProcessor
from ..scoring.models import model_commit
from ..training.training_corpus import TrainingCorpus
from .arguments import exit_on_bad_input, parse
from .naming import model_and_options, model_folder
from .verification import OUTPUTS, example_outputs

PROG = "mmer export"
USAGE = "MODEL --output_dir DIR [--option value …]"
TOLERANCE = 1e-6  # allowed difference between the outputs of this process and of a fresh one


@dataclass
class ExportArguments:
    """Options of `mmer export`."""

    _argument_group_name = "the export"

    output_dir: str = HfArg(help="Folder to write. It must be empty or not exist.")
    form: Literal["light", "self_contained", "as_is"] = HfArg(
        default="as_is", help="light: store the encoders' names; self_contained: store their weights."
    )
    audio_encoder: str | None = HfArg(
        default=None, help="Name of the audio encoder, to make a self-contained model light."
    )
    text_encoder: str | None = HfArg(
        default=None, help="Name of the text encoder, to make a self-contained model light."
    )
    inference_only: bool = HfArg(
        default=False, help="Leave out the parts that only training needs: the MAE decoders and g."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = HfArg(default="float32", help="Precision of the weights.")
    format: Literal["transformers", "onnx"] = HfArg(
        default="transformers",
        help="transformers: weights and code; onnx: graphs for onnxruntime, with a script that needs no torch.",
    )
    int8: bool = HfArg(default=False, help="Let the encoders of ONNX graphs have int8 weights.")
    push: str | None = HfArg(default=None, help="Repository on the hub to push to, as owner/name.")
    private: bool = HfArg(default=False, help="Make a new repository private.")
    revision: str | None = HfArg(default=None, help="Branch to push to. It is created if needed.")


def main(argv: list[str]) -> None:
    name, options = model_and_options(argv, PROG, USAGE)
    (arguments,) = parse((ExportArguments,), options, PROG, USAGE)
    with exit_on_bad_input(PROG):
        destination = Path(arguments.output_dir)
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise ValueError(f"{destination} already exists: choose a new or empty folder.")
        check_format(arguments)
        # Cast while loading, as users of the export do: `.to` would also cast the frequencies of RoPE.
        commit, dtype = model_commit(name), getattr(torch, arguments.dtype)
        model = MMERForEmotionRecognition.from_pretrained(name, revision=commit, dtype=dtype).eval()
        processor, source = AutoProcessor.from_pretrained(name, revision=commit), model_folder(name, commit)
        if arguments.format == "onnx":
            export_onnx(model, processor, source, destination, arguments)
        else:
            prepare(model, arguments)
            deviation = write_verified(model, processor, source, destination, arguments.push)
            describe(model, destination, deviation)
    if arguments.push is not None:
        with exit_on_bad_input(PROG):
            push(destination, arguments)


def check_format(arguments: ExportArguments) -> None:
    """Raise a ValueError if options do not go with the format, or its libraries are not installed."""
    if arguments.format == "transformers":
        if arguments.int8:
            raise ValueError("--int8 is for ONNX graphs: give --format onnx too.")
        return
    defaults = ExportArguments(output_dir="")
    of_transformers = ("form", "audio_encoder", "text_encoder", "inference_only", "dtype")
    if given := [name for name in of_transformers if getattr(arguments, name) != getattr(defaults, name)]:
        raise ValueError(
            f"ONNX graphs have their encoders within them, and no parts for training: leave out --{' --'.join(given)}."
        )
    require_libraries()


def export_onnx(
    model: MMERForEmotionRecognition,
    processor: MMERProcessor,
    source: Path,
    destination: Path,
    arguments: ExportArguments,
) -> None:
    """Write the folder of ONNX graphs next to its destination, verify it and rename it.

    Raises:
        ValueError: the graphs give other outputs than the model, or the model has no graphs. Nothing is written.
    """
    with written_beside(destination) as beside:
        name = arguments.push or destination.name
        differences = write_onnx(model, processor, source, beside, name, arguments.int8)
        if destination.exists():
            destination.rmdir()
    size = sum(path.stat().st_size for path in destination.iterdir()) / 1e6
    of_each = ", ".join(f"{combination} {difference:.1g}" for combination, difference in differences.items())
    print(f"{destination}: ONNX, {'int8' if arguments.int8 else 'float32'}, {size:.1f} MB.")
    print(f"Largest difference from the model over random batches: {of_each}.")
    print(f'Use it: python {destination / "onnx_inference.py"} call.wav --text "I want my money back."')


def prepare(model: MMERForEmotionRecognition, arguments: ExportArguments) -> None:
    """Convert a model to the form that is exported.

    Raises:
        ValueError: the light form is requested but the names of the encoders are unknown, or the named encoders have
            other weights; or a model whose encoders are local folders is to be pushed.
    """
    names = (model.config.audio_encoder_name_or_path, model.config.text_encoder_name_or_path)
    if arguments.form == "light" and None in names:
        names = (arguments.audio_encoder, arguments.text_encoder)
        if None in names:
            raise ValueError(
                "This checkpoint is self-contained and does not store its encoders' names: give --audio_encoder and "
                "--text_encoder, or leave out --form."
            )
        model.make_light(*names)
    if arguments.form == "self_contained":
        model.make_self_contained()
    elif None not in names and any(Path(encoder).exists() for encoder in names):
        remedy = f"its encoders are local folders ({', '.join(names)}): export with --form self_contained"
        if arguments.push is not None:
            raise ValueError(f"Nobody else could load the pushed model, because {remedy}.")
        print(f"The export can only be loaded on this machine: {remedy}.")
    if arguments.inference_only:
        model.decoders = model.contrastive_head = None


def write_verified(
    model: MMERForEmotionRecognition, processor: MMERProcessor, source: Path, destination: Path, model_id: str | None
) -> float:
    """Write the folder next to its destination, verify it and rename it. Returns the largest difference in outputs.

    Raises:
        ValueError: the export gives other outputs than the model. It is removed.
    """
    with written_beside(destination) as beside:
        model.save_pretrained(beside)
        processor.save_pretrained(beside)
        write_endpoint(beside)
        copy_card(source, beside, model_id or destination.name)
        if (training_corpus := TrainingCorpus.load(source)) is not None:
            training_corpus.save(beside)
        deviation = verify(model, processor, beside)
        if destination.exists():
            destination.rmdir()
    return deviation


def copy_card(source: Path, folder: Path, model_id: str) -> None:
    """Copy the model card under the new name, with its pictures, its licence and `results.json`.

    The card of an intermediate checkpoint is in the folder of its run.
    """
    if not (source / "README.md").is_file() and source.name.startswith("checkpoint-"):
        source = source.parent
    if not (source / "README.md").is_file():
        print("The model has no card (README.md); `mmer train` writes one.")
        return
    card = (source / "README.md").read_text(encoding="utf-8")
    if named := re.search(r"<!-- model: (.+?) -->", card):
        card = rename_card(card, named.group(1), model_id)
    (folder / "README.md").write_text(card, encoding="utf-8")
    for extra in [*source.glob("*.png"), source / "results.json", source / "LICENSE"]:
        if extra.is_file():
            shutil.copy(extra, folder)


def rename_card(card: str, old: str, new: str) -> str:
    """Rename the model in the title, `model-index` and snippets of a card, but not a corpus of the same name."""
    old_title, new_title = Path(old).name, Path(new).name
    lines = {
        f"<!-- model: {old} -->": f"<!-- model: {new} -->",
        f"# {old_title}": f"# {new_title}",
        f"- name: {old_title}": f"- name: {new_title}",
    }
    card = "".join(f"{lines.get(line, line)}\n" for line in card.splitlines())
    return card.replace(json.dumps(old), json.dumps(new))


def verify(model: MMERForEmotionRecognition, processor: MMERProcessor, folder: Path) -> float:
    """The largest difference between the outputs of the model and those of the folder, loaded as remote code.

    Raises:
        ValueError: the folder cannot be loaded, or the difference exceeds the tolerance.
    """
    script = Path(__file__).with_name("verification.py")
    command = [sys.executable, str(script), str(folder.resolve())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"The export cannot be loaded in a fresh process:\n{done.stderr.strip()}")
    found, expected = load_file(folder / OUTPUTS), example_outputs(model, processor)
    (folder / OUTPUTS).unlink()
    deviation = max(float((found[name] - expected[name]).abs().max()) for name in expected)
    if not deviation <= TOLERANCE:
        raise ValueError(f"The outputs of the export differ from the model's by up to {deviation:.2g}; it was removed.")
    return deviation


def describe(model: MMERForEmotionRecognition, folder: Path, deviation: float) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    form = "self-contained" if model.config.audio_encoder_name_or_path is None else "light (encoders by name)"
    print(f"{folder}: {form}, {model.dtype}, {size:.1f} MB; verified in a fresh process to {deviation:.1g}.")
    if model.contrastive_head is None:
        print("Without the decoders and g, it gives no embeddings and can only be fine-tuned with their λ at 0.")
    print(f'Load it: pipeline("multimodal-emotion-recognition", model="{folder}", trust_remote_code=True)')


def push(folder: Path, arguments: ExportArguments) -> None:
    """Upload the folder as one commit.

    Raises:
        ValueError: the hub refuses the upload. The folder is kept.
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
            f"The hub refused the upload ({error}). Log in with `hf auth login`. The export is in {folder}."
        ) from error
    print(f"Pushed: {commit.commit_url}")
