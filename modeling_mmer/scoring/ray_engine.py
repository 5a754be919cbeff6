"""Judging on a Ray cluster: `mmer predict … --engine ray`.

Rows are names of recordings and never samples, so that they are small: each worker reads its own files, whose paths it
must be able to reach. Names travel, not objects: each worker builds its own scorer.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from .answers import Row
from .scorer import Scorer

BATCH = 64  # rows that a worker takes at once; those of a worker that dies are judged again
GIVEN = pa.schema(
    {
        **{"id": pa.string(), "audio": pa.string(), "text": pa.string(), "speaker": pa.string()},
        **{"start": pa.float64(), "end": pa.float64(), "channel": pa.int64()},
    }
)


class Judge:
    """A worker: its scorer, on tables."""

    def __init__(self, model: str | None, options: dict[str, Any]):
        self.scorer = Scorer(model, **options)

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.table(self.scorer(rows.to_pydict()), schema=self.scorer.schema)


def judge_on_ray(model: str | None, options: dict[str, Any], rows: Iterable[Row]) -> Iterator[Row]:
    """The results of rows, as the workers of the cluster finish them, in any order. The cluster is that of
    `RAY_ADDRESS`, or this machine. Each worker has a GPU where there are some, and otherwise a core.

    Args:
        model, options: of the [`Scorer`] that each worker builds.

    Raises:
        ImportError: Ray is not installed.
        ValueError: a row has a recording that is no path or URL, or a text with timestamps.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError('--engine ray needs the package ray: pip install "modeling-mmer[ray]".') from error
    ray.init(ignore_reinit_error=True, logging_level="warning", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    given = pa.Table.from_pylist([_plain(row) for row in rows], GIVEN)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    workers = gpus or int(ray.cluster_resources()["CPU"])
    blocks = [given.slice(start, BATCH) for start in range(0, len(given), BATCH)]
    judged = ray.data.from_arrow(blocks).map_batches(
        Judge,
        fn_constructor_args=(model, options),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(workers, max(1, len(blocks)))),
        batch_size=BATCH,
        batch_format="pyarrow",
        num_gpus=1 if gpus else 0,
    )
    for table in judged.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from table.to_pylist()


def _plain(row: Row) -> Row:
    for name in ("audio", "text"):
        if not isinstance(row.get(name), str | None):
            raise ValueError(f"{row['id']}: with --engine ray, {name} must be a string (a path, a URL, a text).")
    return {name: row.get(name) for name in GIVEN.names}
