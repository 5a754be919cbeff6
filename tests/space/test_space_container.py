"""The Dockerfile, built and run without Docker (`dockerfiles.py`): every instruction in a copy of this machine, and the
server as number 1 of its own processes, as a user who owns nothing. It installs from the package index, for minutes."""

import os
import signal
import socket
import time

import pytest
from conftest import REPOSITORY, real_path
from dockerfiles import DOCKERFILE, built, can_build
from hub import offline, put
from spaces import ENCODERS, spoken, write_call

from modeling_mmer.scoring import Scorer

gradio_client = pytest.importorskip("gradio_client", reason="needs Gradio: make test-space")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_build(), reason="needs root, and to mount overlays")]

ADDRESS = "http://127.0.0.1:7860"
OFFLINE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
TEXT = "I am so glad that we won."


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the hub that everybody may read."""
    folder = tmp_path_factory.mktemp("hub")
    for name, encoder in ENCODERS.items():
        put(folder / "hub", name, real_path("models", encoder))
    return folder


@pytest.fixture(scope="module")
def image(cache, tmp_path_factory):
    """Its cache is laid before its encoders are asked for, because there is no hub to download them from."""
    with socket.socket() as port:
        if port.connect_ex(("127.0.0.1", 7860)) == 0:
            pytest.skip("needs port 7860, on which a server listens")
    before, last = DOCKERFILE.read_text().split('ARG ENCODERS=""')
    with built(tmp_path_factory.mktemp("image"), ENCODERS="yes") as image:
        image.build(before)
        image.copy(cache, "/cache")
        image.environment |= OFFLINE
        image.build(f'ARG ENCODERS=""{last}')
        yield image


@pytest.fixture(scope="module")
def container(image, tmp_path_factory):
    with image.started(log=tmp_path_factory.mktemp("log") / "log") as container:
        container.wait_until_healthy()
        yield container


def test_it_runs_as_a_user_who_owns_only_the_cache(container):
    status = open(f"/proc/{container.server}/status").read()
    assert "Uid:\t10001\t10001" in status and "NSpid:\t" in status and status.split("NSpid:")[1].split()[1] == "1"
    owned = "find / -xdev -user mmer -not -path '/proc/*' -not -path '/tmp/*' -not -path '/model*' -not -path '/cache*'"
    assert container.image.run("sh", "-c", owned, user="root").stdout == ""
    for place in ("/mmer", "/usr/local/base", "/etc"):
        assert container.image.run("test", "-w", place).returncode == 1
    assert container.image.run("ffmpeg", "-version").stdout.startswith("ffmpeg version")


def test_page_and_api_answer(container, cache):
    client = gradio_client.Client(ADDRESS, verbose=False)
    recording, text = spoken(1)[0]
    answer = client.predict(gradio_client.handle_file(recording), text, api_name="/judge")
    with offline(cache / "hub"):
        expected = Scorer()({"audio": [recording], "text": [text]})["emotion_score"][0]
    assert answer["answers"]["audio_text"]["emotion_score"] == pytest.approx(expected, abs=1e-3)
    assert container.is_healthy()


def test_it_stops_within_seconds_while_it_judges_and_leaves_nothing(image, container, tmp_path):
    """The last test with that container."""
    client = gradio_client.Client(ADDRESS, verbose=False)
    call = gradio_client.handle_file(str(write_call(tmp_path / "call.wav", 600)))
    client.submit(call, "", api_name="/judge")
    uploads = "find /tmp -name call.wav"
    until = time.monotonic() + 60
    while not image.run("sh", "-c", uploads).stdout and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(1)
    assert image.run("sh", "-c", uploads).stdout
    os.kill(container.server, signal.SIGTERM)
    assert container.process.wait(8) == 143  # Docker kills after 10
    assert image.run("sh", "-c", "ls -A /tmp | grep mmer-").stdout == "" and not container.is_healthy()


def test_a_model_that_is_mounted_read_only_is_served(image, tmp_path):
    """Another model in place of /model: a copy of the released one, which nobody may write to."""
    image.run("sh", "-c", "mv /model /model.before && mkdir /model", user="root")
    image.copy(REPOSITORY / "modeling_mmer/released", "/model")
    image.run("chmod", "-R", "u=rX,go=rX", "/model", user="root")
    assert image.run("test", "-w", "/model/config.json").returncode == 1
    with image.started(log=tmp_path / "log") as container:
        container.wait_until_healthy()
        client = gradio_client.Client(ADDRESS, verbose=False)
        assert client.predict(None, TEXT, api_name="/judge")["answers"]["text"]["emotion"] == "happiness"
    image.run("sh", "-c", "rm -r /model && mv /model.before /model", user="root")


@pytest.mark.parametrize(
    ("environment", "options", "says"),
    [
        ({"MMER_MODEL": "/nowhere"}, (), "mmer space: "),
        ({}, ("--model", "no/such-model"), "mmer space: "),
        ({"HF_HOME": "/empty"}, (), "openai/whisper-base"),
    ],
)
def test_what_cannot_be_loaded_ends_it_with_a_sentence(image, tmp_path, environment, options, says):
    with image.started(*options, log=tmp_path / "log", **environment) as container:
        assert container.process.wait(60) == 2
    log = (tmp_path / "log").read_text()
    assert says in log and "Traceback" not in log, log
