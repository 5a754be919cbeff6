"""The page as a server: programs that call it, several users at once, and what is left of their recordings."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, run
from dockerfiles import DOCKERFILE, instructions
from spaces import RATE, files_below, launched, spoken, write_call

from modeling_mmer.commands.space import build_parser
from modeling_mmer.commands.space import main as space_command
from modeling_mmer.scoring import Scorer

gradio_client = pytest.importorskip("gradio_client", reason="needs Gradio: make test-space")
httpx = pytest.importorskip("httpx", reason="needs Gradio: make test-space")
pytest.importorskip("gradio", reason="needs Gradio: make test-space")
pytestmark = pytest.mark.slow

USERS = 8


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("hub")) as (page, address):
        yield page, address


@pytest.fixture
def judge(space):
    """Calls `/judge` with a recording and a text."""
    client = gradio_client.Client(space[1], verbose=False)

    def judge(recording: str | None, text: str = "", **options) -> dict:
        given = None if recording is None else gradio_client.handle_file(recording)
        return client.predict(given, text, **options, api_name="/judge")

    return judge


def left(page) -> list:
    """The uploads that are on disk once the answer's last step is done."""
    until = time.monotonic() + 5
    while (files := files_below(page.uploads.folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return files


def raw(address: str, *data) -> str:
    """What the endpoint answers to data as they are, without what the client makes of them."""
    event = httpx.post(f"{address}/gradio_api/call/judge", json={"data": data}, timeout=60).json()["event_id"]
    return httpx.get(f"{address}/gradio_api/call/judge/{event}", timeout=60).text


def test_the_answer_is_the_scorers(space, judge):
    recording, text = spoken(1)[0]
    answer = judge(recording, text)
    expected = space[0].judge.scorer({"audio": [recording, None, recording], "text": [None, text, text]})
    for i, way in enumerate(("audio", "text", "audio_text")):
        assert answer["answers"][way]["emotion"] == expected["emotion"][i]
        assert answer["answers"][way]["emotion_score"] == pytest.approx(expected["emotion_score"][i], abs=1e-3)
    assert answer["comparison"].startswith("Voice and words ") and answer["caution"]


def test_eight_users_at_once_get_their_own_answers_and_nothing_is_left(space):
    """Two of them have the same recording, which Gradio keeps as one file."""
    page, address = space
    recordings = [path for path, _ in spoken(USERS - 1)]
    recordings.append(recordings[0])
    expected = Scorer()({"audio": recordings})["emotion_score"]
    assert len(set(np.round(expected, 3))) == USERS - 1

    def use(recording: str) -> float:
        client = gradio_client.Client(address, verbose=False)
        answer = client.predict(gradio_client.handle_file(recording), "", api_name="/judge")
        return answer["answers"]["audio"]["emotion_score"]

    with ThreadPoolExecutor(USERS) as pool:
        assert list(pool.map(use, recordings)) == pytest.approx(expected, abs=1e-3)
    assert left(page) == []


def test_a_call_comes_back_by_speaker_and_over_time(space, judge, tmp_path):
    answer = judge(str(write_call(tmp_path / "call.wav", 35)))
    assert {row["speaker"] for row in answer["over_time"]} == {"left channel", "right channel"}
    assert all(0 <= row["start"] < row["end"] <= 35 for row in answer["over_time"]) and left(space[0]) == []


def test_what_is_not_judged_is_refused_and_not_kept(space, judge, tmp_path):
    (tmp_path / "text.wav").write_text("This is no recording.")
    with pytest.raises(gradio_client.exceptions.AppError, match="cannot be read as a recording"):
        judge(str(tmp_path / "text.wav"))
    with pytest.raises(gradio_client.exceptions.AppError, match="Give a recording, a text, or both"):
        judge(None)
    soundfile.write(tmp_path / "silence.wav", np.zeros(2 * RATE), RATE)
    assert judge(str(tmp_path / "silence.wav"))["headline"] == "No speech"
    assert left(space[0]) == []


def test_uploads_over_the_limit_end_at_the_door(space):
    page, address = space
    files = {"files": ("large.wav", bytes(51 * 2**20))}
    answer = httpx.post(f"{address}/gradio_api/upload", files=files, timeout=60)
    assert answer.status_code == 413 and left(page) == []


def test_paths_of_the_machine_are_refused(space):
    page, address = space
    inside = {"path": str(REPOSITORY / "README.md"), "meta": {"_type": "gradio.FileData"}}
    for path in ("/etc/passwd", inside["path"], f"{page.uploads.folder}/../../etc/passwd", "../README.md"):
        answer = raw(address, {**inside, "path": path}, "", "auto", False)
        assert "event: error" in answer and "root:" not in answer and "MMER" not in answer
    for path in (
        "/etc/passwd",
        inside["path"],
        f"{page.uploads.folder}/../{page.uploads.folder.name}/../../etc/passwd",
    ):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404)
    assert (REPOSITORY / "README.md").exists()


def test_addresses_are_not_fetched(space):
    given = {"path": "http://127.0.0.1:9/a.wav", "meta": {"_type": "gradio.FileData"}}
    assert "Addresses are not fetched" in raw(space[1], given, "", "auto", False)


def test_the_browser_cannot_have_other_files_deleted(space, tmp_path):
    """It says where an upload was at first; only uploads are deleted."""
    page, _ = space
    (tmp_path / "a.wav").touch()
    (page.uploads.folder / "x").mkdir()
    (page.uploads.folder / "x/a.wav").touch()
    for path in (tmp_path / "a.wav", page.uploads.folder / "x/a.wav"):
        assert "Not judged" not in page._show(None, "I am glad.", False, "auto", None, str(path), lambda *_, **__: None)
    assert (tmp_path / "a.wav").exists() and left(page) == []


def test_nothing_is_counted_recorded_or_loaded_from_elsewhere(space):
    page, address = space
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and page.blocks.analytics_enabled is False
    assert page.blocks.run_history is False and page.blocks.delete_cache == (60, 1800)
    html = httpx.get(address).text + httpx.get(f"{address}/theme.css").text
    assert not re.search(r'(?:src|href|url\()\s*=?\s*["\']?https?://(?!127\.0\.0\.1)', html)
    assert "fonts.googleapis" not in html and "mmer-timeline" in html


def test_only_as_many_are_judged_at_once_as_there_are_places(space):
    page, _ = space
    judging = [fn for fn in page.blocks.fns.values() if fn.concurrency_id == "judge"]
    assert len(judging) == 3 and {fn.concurrency_limit for fn in judging} == {2}
    assert page.blocks._queue.max_size == 40 and page.blocks.upload_file_set is page.uploads
    assert [fn.api_name for fn in judging if fn.api_visibility == "public"] == ["judge"]


def test_the_guide_runs_as_written(space, tmp_path, capsys):
    guide = (REPOSITORY / "docs/space.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert "http://127.0.0.1:7860" in snippet and '"call.wav"' in snippet and '"call.TextGrid"' in snippet
    write_call(tmp_path / "call.wav", 35)
    snippet = snippet.replace("http://127.0.0.1:7860", space[1])
    exec(snippet.replace('"call.', f'"{tmp_path}/call.'), {})
    assert "left channel" in capsys.readouterr().out and "left channel" in (tmp_path / "call.TextGrid").read_text()


def test_the_snippets_of_the_guide_of_servers_run_as_written(space, tmp_path, monkeypatch, capsys):
    """The Python of a client, the calls of curl, and its question whether the server is healthy."""
    monkeypatch.chdir(tmp_path)
    recording, _ = spoken(1)[0]
    shutil.copy(recording, "call.wav")
    guide = (REPOSITORY / "docs/serve.md").read_text(encoding="utf-8").replace("http://127.0.0.1:7860", space[1])
    program, _ = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(program, {})
    _, headline, *ways = capsys.readouterr().out.splitlines()
    assert "sure" in headline and [line.split()[0] for line in ways] == ["audio", "text", "audio_text"]
    calls, health = re.findall(r"```bash\n(.*?)```", guide, re.DOTALL)
    done = subprocess.run(["bash", "-c", calls], capture_output=True, text=True, timeout=120)
    of_text, of_both = (json.loads(line[6:])[0] for line in done.stdout.splitlines() if line.startswith("data: ["))
    assert of_text["answers"].keys() == {"text"} and of_text["answers"]["text"]["emotion"] == "happiness"
    assert of_both["answers"].keys() == {"audio", "text", "audio_text"} and left(space[0]) == []
    assert subprocess.run(["bash", "-c", health], capture_output=True).returncode == 0


def test_the_health_check_of_the_container_asks_this_server(space):
    (check,) = (
        rest.partition("CMD")[2] for name, rest in instructions(DOCKERFILE.read_text()) if name == "HEALTHCHECK"
    )
    _, option, program = json.loads(check)
    health = lambda address: run(option, program.replace("http://127.0.0.1:7860", address)).returncode  # noqa: E731
    assert health(space[1]) == 0 and health("http://127.0.0.1:9") != 0


def test_the_command_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit) as exited:
        space_command(["--model", "no/such/model/here"])
    assert exited.value.code == 2 and capsys.readouterr().err.startswith("mmer space: ")
    options = build_parser().parse_args([])
    assert (options.model, options.host, options.port) == (None, "127.0.0.1", 7860)


def test_the_environment_may_name_the_models(monkeypatch):
    monkeypatch.setenv("MMER_MODEL", "/model")
    monkeypatch.setenv("MMER_TRANSCRIBE", "")
    assert build_parser().parse_args([]).model == "/model" and build_parser().parse_args([]).transcribe is None
    assert build_parser().parse_args(["--model", "other"]).model == "other"


def test_it_stops_at_once_while_it_judges_and_leaves_nothing(space, tmp_path):
    """With exit status 143: threads in which torch computes do not abort it."""
    call, places = write_call(tmp_path / "call.wav", 600), tmp_path / "places"
    places.mkdir()
    command = [sys.executable, "-m", "modeling_mmer", "space", "--port", str(port := free_port())]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | {"TMPDIR": str(places)})
    try:
        wait_until(lambda: healthy(f"http://127.0.0.1:{port}"), 120)
        client = gradio_client.Client(f"http://127.0.0.1:{port}", verbose=False)
        client.submit(gradio_client.handle_file(str(call)), "", api_name="/judge")
        wait_until(lambda: [*places.glob("mmer-space-*/taken-*/*/call.wav")], 60)
        time.sleep(2)
        process.terminate()
        assert process.wait(10) == 143 and files_below(places) == []
    finally:
        process.kill()


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def wait_until(condition, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.2)


def healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/gradio_api/startup-events").is_success
    except httpx.TransportError:
        return False


def test_what_the_hub_runs_is_this_page(space, monkeypatch, tmp_path):
    """`space/app.py` in a folder of its own, as the hub has it: another process, whose page answers."""
    from processes import run

    shutil.copy(REPOSITORY / "space/app.py", tmp_path)
    program = (
        f"import os, runpy; os.chdir({str(tmp_path)!r}); app = runpy.run_path('app.py')\n"
        "answer = app['page'].judge.judge(None, 'I am so glad that we won.')\n"
        "print(json.dumps([answer.main['emotion'], type(app['demo']).__name__]))"
    )
    done = run("-c", f"import json\n{program}")
    assert json.loads(done.stdout.splitlines()[-1]) == ["happiness", "Blocks"], done.stderr
