"""The page in a real browser: every way to give something, on a desktop and a phone, checked for accessibility by axe.

`MMER_BROWSER` is the path of a Chromium. With `MMER_SCREENSHOTS`, a folder, each test leaves a picture there.
"""

import json
import os
import shutil
import threading
from pathlib import Path

import pytest
from spaces import files_below, launched, spoken, write_call

sync_api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-space")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: make test-space")
pytest.importorskip("gradio", reason="needs Gradio: make test-space")
BROWSER = os.environ.get("MMER_BROWSER") or shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="needs a Chromium: set MMER_BROWSER")]

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
RECORDING, TEXT = spoken(1)[0]
# Of eight visitors, two are judged at once.
PLACES = ["", "", "In the queue: you are next.", "In the queue: 1 user before you."]
PLACES += [f"In the queue: {before} users before you." for before in range(2, 6)]
PATIENCE = 300_000  # milliseconds: ten minutes of a call take one core about a minute


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with launched(tmp_path_factory.mktemp("hub")) as (page, address):
        yield page, address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Its microphone hears a call, over and over."""
    heard = write_call(tmp_path_factory.mktemp("microphone") / "heard.wav", 20)
    fake = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    # As root, which CI is, Chromium starts only without its sandbox.
    options = ["--no-sandbox", *fake, f"--use-file-for-fake-audio-capture={heard}"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


class Visitor:
    """Somebody with the page open."""

    def __init__(self, browser, address: str, size: str = "desktop", dark: bool = False):
        scheme = "dark" if dark else "light"
        self.context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, permissions=["microphone"])
        self.page, self.asked, self.faults = self.context.new_page(), [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        self.button = self.page.get_by_role("button", name="Judge", exact=True)
        self.button.wait_for(timeout=60_000)

    def give(self, recording: str | dict | None = None, text: str = "") -> "Visitor":
        if recording is not None:
            with self.page.expect_response(lambda response: "/upload" in response.url):
                self.page.locator("#mmer-recording input[type=file]").set_input_files(recording)
            self.page.get_by_role("button", name="Clear").wait_for()
        self.page.get_by_label("Words", exact=True).fill(text)
        return self

    def judge(self) -> str:
        """Press the button; the text of the answer."""
        self.page.evaluate("document.querySelector('#mmer-answer').removeAttribute('aria-busy')")
        self.button.click()
        self.page.locator("#mmer-answer[aria-busy=false] .mmer-card").first.wait_for(timeout=PATIENCE)
        return self.page.locator("#mmer-answer").inner_text()

    def leave(self, name: str) -> None:
        """Close the page. It is accessible, fits the window, and has asked nobody but the server."""
        found = axe.Axe().run(self.page).response["violations"]
        grave = [
            (one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")
        ]
        if folder := os.environ.get("MMER_SCREENSHOTS"):
            self.page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)
        overflow = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        self.context.close()
        elsewhere = [url for url in self.asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))]
        assert (grave, self.faults, elsewhere) == ([], [], []) and overflow <= 0


@pytest.mark.parametrize("size, dark", [("desktop", False), ("phone", True)])
def test_a_recording_and_its_words(space, browser, size, dark):
    visitor = Visitor(browser, space[1], size, dark).give(RECORDING, TEXT)
    answer = visitor.judge()
    assert "Voice and words together" in answer and answer.count("Voice alone") >= 2
    visitor.page.wait_for_function("document.activeElement.tagName === 'H2'")  # where a screen reader goes on
    assert visitor.page.locator("#mmer-answer h2").bounding_box()["y"] < SIZES[size]["height"]
    assert files_below(space[0].uploads.folder) == []
    again = visitor.give(None, "How dare they, they lost my order.").judge()  # the server no longer has the recording
    assert "Voice and words together" in again and again != answer and files_below(space[0].uploads.folder) == []
    visitor.leave(f"both-{size}")


def test_a_text_alone_by_keyboard(space, browser):
    visitor = Visitor(browser, space[1])
    visitor.page.get_by_label("Words", exact=True).focus()
    visitor.page.keyboard.type("I am so glad that we won.")
    visitor.page.keyboard.press("Shift+Enter")
    visitor.page.locator("#mmer-answer .mmer-card").first.wait_for(timeout=PATIENCE)
    answer = visitor.page.locator("#mmer-answer").inner_text()
    assert "The words\nHappiness" in answer.replace("\n\n", "\n") and "SRT" not in answer
    visitor.leave("text")


def test_neither(space, browser):
    visitor = Visitor(browser, space[1])
    assert "Give a recording, a text, or both." in visitor.judge()
    assert visitor.page.get_by_role("alert").filter(has_text="Not judged").count() == 1
    visitor.leave("neither")


def test_a_wrong_file(space, browser):
    wrong = {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"This is no recording. " * 100}
    visitor = Visitor(browser, space[1]).give(wrong)
    assert "This file cannot be read as a recording. Give WAV" in visitor.judge()
    assert files_below(space[0].uploads.folder) == []
    visitor.leave("wrong")


def test_the_microphone(space, browser):
    visitor = Visitor(browser, space[1])
    visitor.page.get_by_role("button", name="Record audio").click()
    visitor.page.get_by_role("button", name="Record", exact=True).click()
    visitor.page.wait_for_timeout(4000)
    with visitor.page.expect_response(lambda response: "/upload" in response.url):
        visitor.page.get_by_role("button", name="Stop").first.click()
    visitor.page.wait_for_timeout(500)  # until the recording has arrived in the page
    assert "The voice" in visitor.judge() and files_below(space[0].uploads.folder) == []
    visitor.leave("microphone")


@pytest.mark.parametrize("size", SIZES)
def test_an_example_call_is_heard_in_parts(space, browser, size, tmp_path):
    visitor = Visitor(browser, space[1], size)
    visitor.page.get_by_text("A call of two speakers").click()
    visitor.page.get_by_role("button", name="Clear").wait_for()
    visitor.page.wait_for_timeout(500)
    assert "left channel" in visitor.judge()
    lane = visitor.page.locator(".mmer-part")
    lane.first.focus()
    visitor.page.keyboard.press("ArrowRight")
    second = visitor.page.evaluate("document.activeElement.getAttribute('data-start')")
    assert second == lane.nth(1).get_attribute("data-start")
    visitor.page.keyboard.press("Enter")
    visitor.page.locator(".mmer-part.mmer-playing").wait_for()
    assert visitor.page.locator(".mmer-heard").inner_text().startswith("Playing left channel, ")
    visitor.page.locator(".mmer-part.mmer-playing").wait_for(state="detached")  # it stops at the end of the part
    with visitor.page.expect_download() as download:
        visitor.page.get_by_role("link", name="JSON").click()
    download.value.save_as(tmp_path / "parts.json")
    rows = json.loads((tmp_path / "parts.json").read_text())
    assert download.value.suggested_filename == "emotions.json" and len(rows) == lane.count() > 10
    visitor.page.get_by_text("parts as a table").click()
    visitor.leave(f"call-{size}")


def test_ten_minutes_of_a_stereo_call(space, browser, tmp_path):
    visitor = Visitor(browser, space[1]).give(str(write_call(tmp_path / "call.wav", 600)))
    answer = visitor.judge()
    assert "Left channel: " in answer and "Right channel: " in answer
    ends = [float(end) for end in visitor.page.eval_on_selector_all(".mmer-part", "all => all.map(e => e.dataset.end)")]
    assert len(ends) > 150 and max(ends) > 590 and files_below(space[0].uploads.folder) == []
    visitor.leave("long")


def test_eight_visitors_see_their_place_in_the_queue_and_get_their_own_answers(space, browser, monkeypatch):
    judge, may_go = space[0].judge.judge, threading.Event()
    monkeypatch.setattr(space[0].judge, "judge", lambda *inputs: may_go.wait() and judge(*inputs))
    words = {"I am so glad that we won.": "Happiness", "How dare you lie to me again?": "Anger"}
    visitors = [Visitor(browser, space[1], size) for size in ("desktop", "phone") for _ in range(4)]
    try:
        for number, visitor in enumerate(visitors):
            visitor.give(None, [*words][number % 2]).button.click()
            place = visitor.page.locator(".mmer-place")
            sync_api.expect(place).to_have_text(PLACES[number], timeout=60_000)
            assert number < 2 or place.bounding_box()["y"] < visitor.page.viewport_size["height"]
        shown = [visitor.page.locator(".mmer-place").inner_text() for visitor in visitors]
        assert shown == PLACES
    finally:
        may_go.set()
    for number, visitor in enumerate(visitors):
        visitor.page.locator("#mmer-answer[aria-busy=false] .mmer-card").first.wait_for(timeout=PATIENCE)
        answer = visitor.page.locator("#mmer-answer").inner_text()
        assert [*words.values()][number % 2] in answer.splitlines()[:4], answer
        sync_api.expect(visitor.page.locator(".mmer-place")).to_have_text("")
        visitor.leave(f"queue-{number}")
