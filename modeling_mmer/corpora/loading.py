"""Names and options → one corpus.

Published corpora (`msp_podcast`, …) know their columns and their scale; data of one's own (`folder`, `hf:NAME`) takes
both from the user. `demo` brings its files, `hf:NAME` is found by `datasets`, all others are read from a directory. An
option may be meant for one corpus among several: `ravdess:calm=neutral`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from .cmu_mosei import load_cmu_mosei
from .columns import by_field
from .crema_d import load_crema_d
from .demo import load_demo
from .emotions import plain
from .faults import BadRows, message, settle
from .folder import header as folder_header
from .folder import load_folder
from .hub import PREFIX, hub_header, load_hub
from .iemocap import FOLDS as IEMOCAP_FOLDS
from .iemocap import load_iemocap
from .joining import distinct, join
from .meld import load_meld
from .msp_podcast import load_msp_podcast
from .ravdess import load_ravdess
from .reading import Reading, fitting
from .schema import Corpus, CorpusError, counted
from .sharing import note_shared

PACKAGED = {"demo": load_demo}
PUBLISHED = {
    "cmu_mosei": load_cmu_mosei,
    "crema_d": load_crema_d,
    "iemocap": load_iemocap,
    "meld": load_meld,
    "msp_podcast": load_msp_podcast,
    "ravdess": load_ravdess,
}
FOLDS = {"iemocap": IEMOCAP_FOLDS}  # of corpora whose protocol is a cross-validation
FROM_DIRECTORY = {"folder": load_folder}


def number_of_folds(names: Sequence[str], speaker_folds: int | None = None) -> int | None:
    """How many folds the corpora have, by their protocol or of their speakers; None if they have none."""
    return next((FOLDS[name] for name in names if name in FOLDS), speaker_folds)


def load_corpora(
    names: str | Sequence[str],
    directories: str | Path | Sequence[str | Path] | None = None,
    *,
    emotion_labels: Sequence[str],
    label_map: Mapping[str, str] | None = None,
    column_map: Mapping[str, str] | None = None,
    label_scale: Sequence[float] | None = None,
    fold: int | None = None,
    speaker_folds: int | None = None,
    on_bad_rows: BadRows | Literal["keep"] = "stop",
    readings: Sequence[Reading] = (),
) -> Corpus:
    """Loads one corpus or several as one.

    Several are concatenated by split, with utterance ids and speakers prefixed and dimensions on the first scale.

    Args:
        names: names of corpora; `hf:NAME` is a data set that `datasets` can load.
        directories: a directory for each corpus that is read from one, in the order of `names`.
        emotion_labels: the model's emotion classes; any other emotion counts as unlabelled.
        label_map: emotion of a corpus -> new name; for one corpus among several `{"ravdess:calm": "neutral"}`, with
            its name or that of its folder.
        column_map: field -> column, for your own data; "" leaves the field unread. Likewise for one among several.
        label_scale: range of the dimensions of your own data (default 1 and 7); one pair, or one per such corpus.
        fold: for corpora whose protocol is a cross-validation (`FOLDS`), or with `speaker_folds`; counted from 1.
        speaker_folds: the number of folds by speaker that your own data are divided into, in place of their splits.
        on_bad_rows: "stop" raises one error that lists all bad rows, "skip" drops them with a notice, "keep" collects
            them in `Corpus.faults`. Only the headers of recordings are read here; `examine` reads them to their end.
        readings: of the corpora that a model was trained on: the defaults for the same kind, or the same columns.

    Raises:
        CorpusError: an unknown name, directories or options that do not match the names, or faults of a corpus.
    """
    names = [names] if isinstance(names, str) else list(names)
    directories = [directories] if isinstance(directories, (str, Path)) else list(directories or [])
    _check_names(names, directories)
    _check_fold(names, fold, speaker_folds, readings)
    remaining = iter(directories)
    places = [next(remaining) if _needs_directory(name) else name.removeprefix(PREFIX) for name in names]
    own = [name for name in names if _is_own_data(name)]
    known_as = _known_as(names, places)
    _check_options(names, own, {"column_map": column_map, "label_scale": label_scale}, known_as)
    _check_distinct(label_map or {}, places)
    scales = iter(_scales(label_scale, len(own)))
    corpora = []
    for name, place, own_names in zip(names, places, known_as, strict=True):
        given = Reading(
            kind="hf" if name.startswith(PREFIX) else name,
            name=name,
            column_map=by_field(_for_corpus(column_map, own_names, known_as)),
            label_map=_for_corpus(label_map, own_names, known_as),
            label_scale=next(scales) if _is_own_data(name) else None,
            fold=fold if name in FOLDS else None,
        )
        by_speaker = {} if speaker_folds is None or name not in own else {"speaker_fold": (fold, speaker_folds)}
        corpora.append(_load(name, place, own_names, emotion_labels, given, readings, **by_speaker))
    unmet = _check_met(label_map, known_as, corpora)
    corpus = corpora[0] if len(corpora) == 1 else join(corpora)
    corpus = replace(corpus, notices=[*corpus.notices, *unmet])
    if not corpus.splits:
        raise CorpusError(message(corpus))
    return corpus if on_bad_rows == "keep" else note_shared(settle(corpus, on_bad_rows))


def _check_options(
    names: Sequence[str], own: Sequence[str], options: Mapping[str, Any], known_as: Sequence[tuple[str, ...]]
) -> None:
    """Options for data of one's own need such data, and corpora that they name must be known."""
    for option, value in options.items():
        if value and not own:
            raise CorpusError(f"{option} has no effect on {', '.join(names)}, which declare their own")
    if wrong := [key for key in options["column_map"] or {} if ":" in key and not _qualified(key, known_as)[0]]:
        raise _unknown_corpus(wrong[0], known_as)


def _load(
    name: str,
    place: str | Path,
    known_as: tuple[str, ...],
    emotion_labels: Sequence[str],
    given: Reading,
    readings: Sequence[Reading],
    **options: Any,
) -> Corpus:
    """One corpus, read as it is `given`, and for the rest as one of `readings` says; `options` go to its loader."""
    of_hub = name.startswith(PREFIX)
    header = (hub_header if of_hub else folder_header)(place) if readings and _is_own_data(name) else None
    earlier = fitting(readings, given.kind, known_as, header)
    reading = earlier.under(given)
    options |= {"emotion_labels": emotion_labels, "label_map": reading.label_map}
    if _is_own_data(name):
        options |= {"column_map": reading.column_map, "label_scale": reading.label_scale}
    if name in FOLDS:
        options["fold"] = reading.fold
    loader = load_hub if of_hub else (PACKAGED | PUBLISHED | FROM_DIRECTORY)[name]
    corpus = loader(*([] if name in PACKAGED else [place]), **options)
    reading = replace(reading, name=corpus.name)
    if _is_own_data(name):
        reading = replace(reading, columns=corpus.columns)
    told = earlier.told(given)
    notices = [f"read as in training: {told}"] if told else []
    return replace(corpus, readings=(reading,), notices=[*notices, *corpus.notices])


def _is_own_data(name: str) -> bool:
    """Whether the user says which columns and which scale it has."""
    return name in FROM_DIRECTORY or name.startswith(PREFIX)


def _needs_directory(name: str) -> bool:
    return name in FROM_DIRECTORY or name in PUBLISHED


def _known_as(names: list[str], places: list[str | Path]) -> list[tuple[str, ...]]:
    """What an option for one corpus among several may call it: the name that its rows' ids begin with, the corpus's
    own, its place as it was given, and the end of its path, as far as it is that of no other."""
    parts = [_parts(str(place)) for place in places]
    ends = [["/".join(of_path[-n:]) for n in range(1, min(4, len(of_path)) + 1)] for of_path in parts]
    occurrences = Counter(end for of_one in ends for end in of_one)
    rows_of = distinct([of_path[-1] for of_path in parts])
    return [
        (in_rows, name, str(place), *(end for end in of_one if occurrences[end] == 1))
        for in_rows, name, place, of_one in zip(rows_of, names, places, ends, strict=True)
    ]


def _parts(place: str) -> tuple[str, ...]:
    """The parts of a corpus's path, the last one its name."""
    path = Path(place).expanduser()
    if path.is_file():
        path = path.resolve().with_suffix("")
        return path.parts[:-1] if path.name.lower() == "metadata" else path.parts
    return path.resolve().parts if path.exists() else Path(place.partition(":")[0]).absolute().parts


def _check_names(names: list[str], directories: list) -> None:
    existing = ", ".join([*sorted(PACKAGED | PUBLISHED | FROM_DIRECTORY), f"{PREFIX}NAME"])
    if not names:
        raise CorpusError(f"no corpus named; there are: {existing}")
    for name in names:
        if name.startswith(PREFIX) and not name.removeprefix(PREFIX).strip("/ "):  # `Path("")` is the working directory
            raise CorpusError(f"{name} names no data set: give {PREFIX}NAME, its name on the hub or a folder")
        if name not in PACKAGED | PUBLISHED | FROM_DIRECTORY and not name.startswith(PREFIX):
            raise CorpusError(
                f"no corpus {name!r}; there are: {existing}. Data of your own: --corpus folder --corpus_dir FOLDER"
            )
    for name in PACKAGED | PUBLISHED:
        if names.count(name) > 1:
            raise CorpusError(f"the corpus {name} is named more than once")
    need_directory = [name for name in names if _needs_directory(name)]
    if len(directories) != len(need_directory):
        raise CorpusError(
            f"{counted(len(need_directory), 'named corpus is', 'named corpora are')} read from a directory "
            f"({', '.join(need_directory) or 'none'}), but "
            f"{counted(len(directories), 'directory is', 'directories are')} given; give one for each, in "
            "the same order"
        )


def _check_distinct(label_map: Mapping[str, str], places: Sequence[str | Path]) -> None:
    """Raise a CorpusError if one name of an emotion is mapped to two, or one folder is read twice."""
    known: dict[str, str] = {}
    for old, new in label_map.items():
        if plain(known.setdefault(plain(old), new)) != plain(new):
            raise CorpusError(f"label_map: {old} is mapped twice, to {known[plain(old)]} and to {new}")
    folders = [Path(place).expanduser().resolve() for place in places if Path(place).expanduser().exists()]
    if twice := [folder for folder, n in Counter(folders).items() if n > 1]:
        raise CorpusError(f"{twice[0]} is read more than once: give each folder once")


def _check_fold(names: list[str], fold: int | None, speaker_folds: int | None, readings: Sequence[Reading]) -> None:
    named = ", ".join(names)
    if speaker_folds is not None:
        if not any(map(_is_own_data, names)):
            raise CorpusError(f"--speaker_folds is for your own data; {named} has splits or folds of its own")
        if speaker_folds != number_of_folds(names, speaker_folds):
            needed = number_of_folds(names)
            raise CorpusError(f"{named} has {needed} folds: --speaker_folds must be {needed}, not {speaker_folds}")
    folds = number_of_folds(names, speaker_folds)
    known = {reading.kind for reading in readings if reading.fold is not None}
    if fold is None and (speaker_folds or {name for name in names if name in FOLDS} - known):
        raise CorpusError(f"{named} has {folds} folds: say which with --fold, counted from 1")
    if fold is not None and folds is None:
        raise CorpusError(f"{named} has no folds, but the fold {fold} is asked for; --speaker_folds makes some")
    if fold is not None and not 1 <= fold <= folds:
        raise CorpusError(f"{named} has the folds 1 to {folds}, not {fold}")


def _qualified(key: str, known_as: list[tuple[str, ...]]) -> tuple[str, str]:
    """A key as the corpus that it is for, "" if it is for all, and the rest. Either may hold colons of its own."""
    known = sorted((name for names in known_as for name in names), key=len, reverse=True)
    qualifier = next((name for name in known if name and key.startswith(f"{name}:")), "")
    return qualifier, key[len(qualifier) + 1 :] if qualifier else key


def _check_met(
    label_map: Mapping[str, str] | None, known_as: list[tuple[str, ...]], corpora: list[Corpus]
) -> list[str]:
    """A notice of the entries of `label_map` that met no emotion in any corpus that they are for.

    Raises:
        CorpusError: one names a corpus that there is not.
    """
    unmet = []
    for key in label_map or {}:
        qualifier, emotion = _qualified(key, known_as)
        meant = [corpus for corpus, names in zip(corpora, known_as, strict=True) if not qualifier or qualifier in names]
        if all(emotion in corpus.unmet for corpus in meant):
            if ":" in emotion and not qualifier:
                raise _unknown_corpus(key, known_as)
            unmet.append(key)
    return [f"label_map names emotions that do not occur: {', '.join(unmet)}"] if unmet else []


def _unknown_corpus(key: str, known_as: list[tuple[str, ...]]) -> CorpusError:
    known = dict.fromkeys(name for names in known_as for name in names[:2])
    return CorpusError(f"{key}: there is no corpus {key.rpartition(':')[0]!r} among {', '.join(known)}")


def _for_corpus(
    option: Mapping[str, str] | None, own_names: tuple[str, ...], known_as: list[tuple[str, ...]]
) -> dict[str, str]:
    """The entries that concern one corpus: those for all, then those for it."""
    split = [(*_qualified(key, known_as), value) for key, value in (option or {}).items()]
    return {key: value for q, key, value in split if not q} | {key: value for q, key, value in split if q in own_names}


def _scales(label_scale: Sequence[float] | None, n: int) -> list[Sequence[float] | None]:
    """A scale for each of n corpora of one's own."""
    if label_scale is None or len(label_scale) == 2 or n < 2:
        return [label_scale] * n
    if len(label_scale) != 2 * n:
        raise CorpusError(f"label_scale takes a lowest and a highest value, once or for each of {n} corpora")
    return [label_scale[i : i + 2] for i in range(0, 2 * n, 2)]
