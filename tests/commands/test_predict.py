"""`mmer predict`: any input in, a readable answer or a file out; a killed run goes on without a repeat or a gap."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from processes import reaches, run, start
from scorers import RECORDINGS, numbers, save_model

from modeling_mmer.commands import main
from modeling_mmer.scoring import Scorer


def predict(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["predict", *map(str, words)])
    return ended.value.code


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """160 recordings of which 40 are broken, each in one of five ways."""
    folder = tmp_path_factory.mktemp("archive")
    whole = RECORDINGS[0].read_bytes()
    broken = [b"", b"no sound at all", whole[:40], b"RIFF\0\0\0\0WAVE", bytes(5000)]
    for i in range(160):
        if i % 4 == 3:
            (folder / f"{i:03}.wav").write_bytes(broken[i // 4 % 5])
        else:
            (folder / f"{i:03}.opus").write_bytes(RECORDINGS[i].read_bytes())
    return folder


# ── the terminal ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_recording_is_shown_in_full(saved_model, capsys):
    assert predict(RECORDINGS[0], "--text", "so glad", "--model", saved_model) == 0
    shown = capsys.readouterr().out
    (expected,) = pd.DataFrame(Scorer(str(saved_model))({"audio": [RECORDINGS[0]], "text": ["so glad"]})).to_dict(
        "records"
    )
    assert f"({expected['seconds']:.1f} s, audio and text)" in shown
    assert re.search(rf"emotion +{expected['emotion']} ", shown) and f"Model: {saved_model}" in shown
    assert f"{expected['emotion']} {expected['emotion_score']:.2f}" in shown
    assert f"valence {expected['valence']:.1f}" in shown and "100 %" in shown  # of the timeline


def test_a_text_alone_and_many_rows(saved_model, capsys):
    assert predict("--text", "so glad", "--model", saved_model) == 0
    assert "text  (text)" in capsys.readouterr().out
    assert predict(*RECORDINGS[:3], "--model", saved_model) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 3 and "3 rows judged" in shown.err
    assert predict(*RECORDINGS[:3], "--model", saved_model, "--format", "jsonl") == 0
    assert [json.loads(line)["audio"] for line in capsys.readouterr().out.splitlines()] == list(
        map(str, RECORDINGS[:3])
    )


def test_turns_are_judged_with_their_own_text(saved_model, tmp_path, capsys):
    turns = [{"start": 0.5, "end": 2, "speaker": "ANN", "text": "so glad"}, {"start": 1, "end": 2, "speaker": "BOB"}]
    (tmp_path / "turns.json").write_text(json.dumps({"segments": turns}))
    options = ("--turns", tmp_path / "turns.json", "--model", saved_model, "--speech", "off")
    assert predict(RECORDINGS[0], *options, "--output", tmp_path / "turns.jsonl") == 0
    ann, bob = lines_of(tmp_path / "turns.jsonl")
    assert (ann["speaker"], ann["text"], ann["modalities"]) == ("ANN", "so glad", ["audio", "text"])
    assert (bob["start"], bob["end"], bob["seconds"], bob["modalities"]) == (1, 2, 1, ["audio"])
    capsys.readouterr()
    assert predict(RECORDINGS[0], *options) == 0
    shown = capsys.readouterr().out
    assert "ANN" in shown and "BOB" in shown and "so glad" in shown


def test_channels_and_windows_and_a_timeline(saved_model, tmp_path):
    left, right = (soundfile.read(path, dtype="float32")[0] for path in RECORDINGS[:2])
    n = min(len(left), len(right))
    soundfile.write(tmp_path / "call.wav", np.stack([left[:n], right[:n]], 1), 16000)
    options = ("--channels", "split", "--windows", "1", "--speech", "off", "--model", saved_model)
    options += ("--plot", tmp_path / "call.svg")
    assert predict(tmp_path / "call.wav", *options, "--output", tmp_path / "call.rttm") == 0
    found = [line.split() for line in (tmp_path / "call.rttm").read_text().splitlines()]
    ends = [float(start) + float(length) for _, _, _, start, length, *_ in found]
    assert {line[7] for line in found} == {"channel_0", "channel_1"} and len(found) == 2 * -(-n // 16000)
    assert "<svg" in (tmp_path / "call.svg").read_text()
    assert max(ends) == pytest.approx(n / 16000, abs=1e-3)


# ── archives ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_broken_files_are_rows_with_an_error(saved_model, archive, tmp_path, capsys):
    output = tmp_path / "scores.jsonl"
    assert predict(archive, "--model", saved_model, "--output", output) == 0
    rows = lines_of(output)
    assert [Path(row["id"]).name for row in rows] == sorted(file.name for file in archive.iterdir())
    assert [bool(row["error"]) for row in rows] == [i % 4 == 3 for i in range(160)]
    said = capsys.readouterr().err
    assert "160 rows judged" in said and "40 rows have an error" in said and "Traceback" not in said
    assert predict(archive, "--model", saved_model, "--output", output, "--strict") == 1
    assert "160 inputs are in" in capsys.readouterr().err and lines_of(output) == rows


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_run_that_is_killed_five_times_equals_one_that_is_not(saved_model, archive, tmp_path, form):
    options = [str(archive), "--model", str(saved_model), "--batch_size", "1", "--num_workers", "1"]
    whole, killed = tmp_path / f"whole.{form}", tmp_path / f"killed.{form}"
    assert predict(*options, "--output", whole) == 0

    def read(path: Path) -> list[dict]:
        if form == "jsonl":
            return lines_of(path)
        return pd.read_parquet(path).astype(object).where(lambda table: table.notna(), None).to_dict("records")

    # Results are written at once, so that there is something to kill between.
    command = (
        "import sys; from modeling_mmer.commands import main, predicting; predicting.AT_ONCE = 8; main(sys.argv[1:])"
    )
    counts = []
    for _ in range(5):
        before = len(read(killed)) if killed.exists() else 0
        process = start(["-c", command, "predict", *options, "--output", str(killed)])
        reaches(process, lambda n=before: killed.exists() and len(read(killed)) > n)
        process.kill()
        process.join()
        counts.append(len(read(killed)))  # valid at every moment
    assert counts == sorted(counts) and 0 < counts[0] < counts[-1] < 160
    assert predict(*options, "--output", killed) == 0
    expected, found = read(whole), read(killed)
    assert [row["id"] for row in found] == [row["id"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-6)
        assert [one[k] for k in ("emotion", "error")] == [other[k] for k in ("emotion", "error")]


def test_another_model_or_other_options_are_refused(saved_model, tmp_path, capsys):
    output = tmp_path / "scores.jsonl"
    options = (RECORDINGS[0], "--output", output, "--model")
    assert predict(*options, saved_model) == 0
    manifest = json.loads((tmp_path / "scores.jsonl.manifest.json").read_text())
    assert manifest["model"] == str(saved_model) and manifest["version"] and len(manifest["fingerprint"]) == 64
    before = output.read_text()
    other = save_model(tmp_path / "other", seed=1)
    assert predict(*options, other) == 2 and "fingerprint was" in capsys.readouterr().err
    assert predict(*options, saved_model, "--windows", "1") == 2 and "options was" in capsys.readouterr().err
    assert output.read_text() == before
    assert predict(*options, other, "--resume", "false") == 0 and output.read_text() != before


@pytest.mark.slow
@pytest.mark.fresh
def test_shares_and_the_processes_of_torchrun_write_a_file_each(saved_model, tmp_path):
    """The second half by two processes of torchrun, the first as shares of their own."""
    words = ["predict", str(RECORDINGS[0].parent / "test_00*.opus"), "--model", str(saved_model), "--speech", "off"]
    words += ["--output", str(tmp_path / "s.csv"), "--shard"]
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "modeling_mmer")
    done = run(*torchrun, *words, "2/2")
    assert done.returncode == 0, done.stderr
    files = [tmp_path / f"s-0000{i}-of-00004.csv" for i in range(1, 5)]
    assert sorted(tmp_path.glob("*.csv")) == files[2:]
    for shard in ("1/4", "2/4"):
        assert predict(*words[1:], shard) == 0
    found = [pd.read_csv(file)["audio"].tolist() for file in files]
    expected = sorted(map(str, RECORDINGS[0].parent.glob("test_00*.opus")))
    assert found == [expected[i::4] for i in range(4)]


# ── wrong calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give an INPUT"),
        (("absent.wav",), "no file or folder absent.wav"),
        (("a.wav", "--output", "scores.docx"), "tells no format"),
        (("a.wav", "--format", "srt"), "needs a file"),
        (("a.wav", "--shard", "5/4"), "such as 3/64"),
        (("a.wav", "--model", ""), "--model is empty"),
        (("a.wav", "--model", "absent/model"), "absent/model"),
        (("a.wav", "--turns", "absent.rttm"), "absent.rttm"),
        (("a.wav", "b.wav", "--text", "one"), "one recording"),
        (("a.wav", "b.wav", "--plot", "a.png"), "one recording"),
        (("a.wav", "b.wav", "--output", "c.txt"), "give a folder: --output c --format audacity"),
        (("a.wav", "--windows", "-1"), "windows must be"),
        (("a.wav", "--colour", "red"), "--colour"),
        (("a.wav", "--column_map", "audio"), "FIELD=COLUMN"),
    ],
)
def test_a_wrong_call_is_one_clear_line_and_status_2(saved_model, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        soundfile.write(name, np.zeros(100), 16000)
    model = () if "--model" in words else ("--model", saved_model)
    assert predict(*words, *(model if words else ())) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_flags_do_not_swallow_inputs(saved_model, tmp_path):
    output = tmp_path / "scores.jsonl"
    assert (
        predict("--model", saved_model, "--strict", RECORDINGS[0], "--embedding", RECORDINGS[1], "--output", output)
        == 0
    )
    assert [len(row["embedding"]) for row in lines_of(output)] == [16, 16]


def test_help_imports_nothing_heavy():
    code = "import sys; from modeling_mmer.commands import main; main(['predict', '--help'])"
    probe = (
        f"import atexit, sys; atexit.register(lambda: print(sorted(m for m in sys.modules if '.' not in m))); {code}"
    )
    done = run("-c", probe, fresh=True)
    assert done.returncode == 0 and "INPUT" in done.stdout
    modules = done.stdout.splitlines()[-1]
    for heavy in ("torch", "transformers", "numpy", "pandas", "pyarrow", "soundfile"):
        assert f"'{heavy}'" not in modules
