"""Hub names: resolves a name to a commit, and explains in one line why a model cannot be loaded.

A name is a folder or the name of a model on the hub. A folder takes precedence, as in transformers, and has no commits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, errors, hf_hub_download, is_offline_mode, resolve_revision

CONFIG = "config.json"
# The arguments of `from_pretrained` that apply to any repository, unlike `revision` and `subfolder`.
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token")


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `from_pretrained` that also apply to the repositories of the encoders."""
    return {name: value for name, value in options.items() if name in _HUB_OPTIONS}


def commit_of(name: str, revision: str | None = None, subfolder: str = "", **hub: Any) -> str | None:
    """Resolve a hub name to a commit, and check that its config is available. None for a folder.

    Args:
        name: a folder or a hub name.
        revision: a branch, tag or commit; by default the latest commit or, offline, the one in the cache.
        subfolder: subfolder of the config.
        hub: hub options: `cache_dir`, `token`, `local_files_only`, `force_download`.

    Raises:
        OSError: the model does not exist or cannot be loaded; the message is one line and says what to do.
    """
    if not name.strip():  # `Path("")` is the working directory
        raise OSError("The name of a model is empty: give a folder or a name on the hub.")
    if Path(name).exists():
        require_model_folder(Path(name), Path(name) / subfolder, revision)
        return None
    offline = is_offline_mode() or bool(hub.get("local_files_only"))
    where = {option: hub[option] for option in ("cache_dir", "token") if option in hub}
    try:
        commit = resolve_revision(name, revision=revision, **where | {"local_files_only": offline}).resolved
        hf_hub_download(name, CONFIG, subfolder=subfolder or None, revision=commit, **hub)
    except (
        errors.HFValidationError,
        errors.HfHubHTTPError,
        errors.EntryNotFoundError,
        errors.RevisionResolutionError,
    ) as error:
        raise OSError(what_to_do(name, error, revision, offline, hub.get("cache_dir"))) from error
    return commit


def require_model_folder(named: Path, folder: Path, revision: str | None) -> None:
    """Raise an OSError if a folder has no model, or a revision of it is requested."""
    if not named.is_dir():
        raise OSError(f"{named} is a file: give the folder of a model, or a name on the hub.")
    if not (folder / CONFIG).is_file():
        within = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        found = f"; its subfolder {', '.join(within)} has one" if within else ""
        raise OSError(f"{folder} is not a saved model: the folder has no {CONFIG}{found}.")
    if revision is not None:
        raise OSError(
            f"{named} is a local folder and has no revision {revision}. Leave out the revision or, to load the model "
            "of that name from the hub, rename the folder or change the working directory."
        )


def what_to_do(
    name: str,
    error: Exception,
    revision: str | None = None,
    offline: bool = True,
    cache: str | Path | None = None,
    kind: str = "model",
) -> str:
    """Explain why a model (or data set) cannot be loaded from the hub, and what to do."""
    at = f" at revision {revision}" if revision else ""
    if isinstance(error, errors.HFValidationError):
        return f"There is no folder {name}, and no {kind} on the hub can have that name."
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: request access at {constants.ENDPOINT}/{name}, and log in with `hf auth login`."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"There is no folder {name} and no {kind} {name} on {constants.ENDPOINT}, unless it is private: correct "
            "the name, or log in with `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"The {kind} {name} has no revision {revision} on {constants.ENDPOINT}."
    if isinstance(error, errors.LocalEntryNotFoundError | errors.RevisionResolutionError):
        why = "this process is offline" if offline else "the hub cannot be reached"
        fetch = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        fetch += (f" --cache-dir {cache}" if cache else "") + ("" if kind == "model" else " --repo-type dataset")
        return (
            f"There is no folder {name} and no {kind} {name}{at} in the local cache "
            f"({cache or constants.HF_HUB_CACHE}), and {why}: correct the name, or download it with `{fetch}`."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name}{at} has no {CONFIG} on {constants.ENDPOINT}: it is not a transformers model."
    return f"{name}{at} cannot be downloaded from {constants.ENDPOINT}: {first_line(error)}"


@contextmanager
def loading_explained(name: str, commit: str | None) -> Iterator[None]:
    """Explain errors of transformers about missing files of a model in one line.

    Raises:
        OSError: the model is incomplete.
    """
    try:
        yield
    except OSError as error:
        remedy = "the folder is not a complete model"
        if commit is not None:
            remedy = f"download the files that are not cached with `hf download {name} --revision {commit}`"
        raise OSError(f"{name} cannot be loaded ({first_line(error)}): {remedy}.") from error


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
