"""Ray: the same results on a cluster of two workers, one of which is killed on the way. Names travel, not samples."""

import os
import signal
from pathlib import Path

import pytest
from conftest import REPOSITORY
from scorers import RECORDINGS, numbers

from modeling_mmer.scoring import Scorer, ray_engine

ray = pytest.importorskip("ray", reason="needs the extra ray")


@pytest.fixture(scope="module", autouse=True)
def note(tmp_path_factory) -> Path:
    """A cluster of two workers; the file that notes that one was killed."""
    note = tmp_path_factory.mktemp("ray") / "killed"
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent, REPOSITORY)))
    environment = {"env_vars": {"PYTHONPATH": path, "KILLED_ONCE": str(note)}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error", runtime_env=environment)
    yield note
    ray.shutdown()


class KilledOnce(ray_engine.Judge):
    """A worker that dies as a machine does, at its second batch, if it is the first to come so far."""

    def __call__(self, rows):
        self.calls = getattr(self, "calls", 0) + 1
        try:
            if self.calls == 2:
                os.close(os.open(os.environ["KILLED_ONCE"], os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
        return super().__call__(rows)


@pytest.mark.slow
def test_a_killed_worker_loses_and_repeats_nothing(saved_model, note, monkeypatch):
    rows = [
        {"id": str(i), "audio": str(path), "text": "so glad" if i % 2 else None} for i, path in enumerate(RECORDINGS)
    ]
    rows = rows[:60] + [{"id": "absent", "audio": "absent.wav"}]
    monkeypatch.setattr(ray_engine, "BATCH", 5)
    monkeypatch.setattr(ray_engine, "Judge", KilledOnce)
    options = {"num_workers": 1, "windows": 1.0}
    found = list(ray_engine.judge_on_ray(str(saved_model), options, rows))
    assert note.exists()
    found.sort(key=lambda row: [one["id"] for one in rows].index(row["id"]))
    expected = list(Scorer(str(saved_model), **options).stream(rows))
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-6)
        assert (one["emotion"], one["error"], len(one["windows"])) == (
            *(other["emotion"], other["error"], len(other["windows"])),
        )


def test_samples_do_not_travel(saved_model):
    with pytest.raises(ValueError, match="a: with --engine ray, audio must be a string"):
        list(ray_engine.judge_on_ray(str(saved_model), {}, [{"id": "a", "audio": b"samples"}]))
