"""Hub names: the commit that a name stands for, and one clear line where nothing can be loaded by it.

A model is named by its folder or by its name on the hub. A folder wins, as in transformers, and has no commits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, is_offline_mode, resolve_revision
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

CONFIG = "config.json"
# Of `from_pretrained`'s arguments, those that hold for any repository: `revision` and `subfolder` are of one alone.
_FOR_ANY = ("cache_dir", "force_download", "local_files_only", "token")


def hub_options(options: dict[str, Any]) -> dict[str, Any]:
    """Of `from_pretrained`'s arguments, those that go to the repositories of the encoders too."""
    return {name: value for name, value in options.items() if name in _FOR_ANY}


def commit_of(name: str, revision: str | None = None, subfolder: str = "", **hub: Any) -> str | None:
    """The commit of a hub name, once it is sure that a model's config can be had of it; None of a folder.

    Args:
        name: a folder or a hub name.
        revision: a branch, tag or commit; None: the newest commit or, offline, that of the cache.
        hub: where to look: `cache_dir`, `token`, `local_files_only`, `force_download`.

    Raises:
        OSError: there is no such model, or it cannot be had; the message is one line, and says what to do.
    """
    if not name.strip():  # `Path("")` is the working directory
        raise OSError("A model is named by an empty text: give its folder, or its name on the hub.")
    if Path(name).exists():
        require_model_folder(Path(name), Path(name) / subfolder, revision)
        return None
    offline = is_offline_mode() or bool(hub.get("local_files_only"))
    where = {option: hub[option] for option in ("cache_dir", "token") if option in hub}
    try:
        commit = resolve_revision(name, revision=revision, **where | {"local_files_only": offline}).resolved
        hf_hub_download(name, CONFIG, subfolder=subfolder or None, revision=commit, **hub)
    except (HFValidationError, HfHubHTTPError, EntryNotFoundError, RevisionResolutionError) as error:
        raise OSError(what_to_do(name, error, revision, offline, hub.get("cache_dir"))) from error
    return commit


def require_model_folder(named: Path, folder: Path, revision: str | None) -> None:
    """Raise an OSError unless a folder holds a model and no revision is asked of it."""
    if not named.is_dir():
        raise OSError(f"{named} is a file: name the folder of a model, or a model on the hub.")
    if not (folder / CONFIG).is_file():
        within = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        found = f"; there is one in {', '.join(within)} within it" if within else ""
        raise OSError(f"{folder} is a folder without a {CONFIG}, and so no saved model{found}.")
    if revision is not None:
        raise OSError(
            f"{named} is a folder here, which has no revision {revision}: rename it, or work elsewhere, to load the "
            "model of that name from the hub; or leave out the revision."
        )


def what_to_do(
    name: str,
    error: Exception,
    revision: str | None = None,
    offline: bool = True,
    cache: str | Path | None = None,
    kind: str = "model",
) -> str:
    """What a failure to find a model (or data set) on the hub means, and its remedy."""
    at = f" at revision {revision}" if revision else ""
    if isinstance(error, HFValidationError):
        return f"There is no folder {name}, and no {kind} on the hub can have that name."
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: ask for access on {constants.ENDPOINT}/{name}, and log in with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no folder {name} and no {kind} {name} on {constants.ENDPOINT}, unless it is private: mend the "
            "name, or log in with `hf auth login`."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"The {kind} {name} has no revision {revision} on {constants.ENDPOINT}."
    if isinstance(error, LocalEntryNotFoundError | RevisionResolutionError):
        why = "this process is offline" if offline else "the hub cannot be reached"
        fetch = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        fetch += (f" --cache-dir {cache}" if cache else "") + ("" if kind == "model" else " --repo-type dataset")
        return (
            f"There is no folder {name} and no {kind} {name}{at} in the local cache "
            f"({cache or constants.HF_HUB_CACHE}), and {why}: mend the name, or fetch it online with `{fetch}`."
        )
    if isinstance(error, EntryNotFoundError):
        return f"{name}{at} has no {CONFIG} on {constants.ENDPOINT}: it is no model of transformers."
    return f"{name}{at} cannot be had from {constants.ENDPOINT}: {first_line(error)}"


@contextmanager
def loading_explained(name: str, commit: str | None) -> Iterator[None]:
    """Turn what transformers raises where a file of a known model is lacking into one line.

    Raises:
        OSError: as said.
    """
    try:
        yield
    except OSError as error:
        remedy = "the folder is not a whole model"
        if commit is not None:
            remedy = f"fetch what the local cache lacks of it with `hf download {name} --revision {commit}`"
        raise OSError(f"{name} cannot be loaded ({first_line(error)}): {remedy}.") from error


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
