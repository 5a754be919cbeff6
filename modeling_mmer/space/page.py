"""The page: what a visitor gives, what is shown, and the server that runs it."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before the import: it reads this then

try:
    import gradio as gr
except ImportError as error:
    raise ImportError('The page needs Gradio: pip install "modeling-mmer[space]".') from error

from . import wording
from .examples import make_examples
from .judging import Answer, Channels, Judge
from .limits import FORMATS, MOST_CHARACTERS, MOST_MEGABYTES, MOST_MINUTES, Refused
from .results import EMPTY, answer_html, refusal_html
from .uploads import Uploads

HERE = Path(__file__).parent
AT_ONCE, WAITING = 2, 40  # inputs that are judged at once, and that may wait; the next is turned away
KEPT = (60, 1800)  # seconds: uploads that are never judged are looked for this often, and deleted at this age
CHANNELS = [
    ("Find out", "auto"),
    ("All channels together", "mix"),
    ("A speaker on each channel", "split"),
]
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif")
CODE_FONTS = ("ui-monospace", "Consolas", "monospace")
CONTRAST = {  # what the theme draws too pale to be read by everybody
    **{"body_text_color_subdued": "#475569", "body_text_color_subdued_dark": "#b4c0d0"},
    **{"button_primary_background_fill": "*primary_700", "button_primary_background_fill_hover": "*primary_800"},
    **{"button_primary_background_fill_dark": "*primary_700", "input_placeholder_color": "#5b677a"},
    **{"input_placeholder_color_dark": "#9aa7b8", "block_label_text_color": "*neutral_700"},
}
INTRODUCTION = f"""# Which emotion comes across?

Give a recording, its words, or both. You see what the voice says, what the words say, and where they disagree.
Recordings are deleted as soon as they are judged.

<p class="mmer-limits">{FORMATS}, up to {MOST_MINUTES} minutes and {MOST_MEGABYTES} MB.</p>"""


def recording_input(**options: Any) -> gr.Audio:
    """A field for uploads and what the microphone records. It does not fetch addresses for whoever asks."""
    field = gr.Audio(type="filepath", **options)
    place = field.async_move_resource_to_block_cache

    async def place_upload(path: str | Path | None) -> str | None:
        if "://" in str(path):
            raise gr.Error("Addresses are not fetched. Upload the recording itself.")
        return await place(path)

    field.async_move_resource_to_block_cache = place_upload
    return field


class Page:
    """The page of one model.

    Args:
        model: a folder or a hub name; by default the model that comes with the package.
        transcribe: a speech recogniser, a folder or a hub name; without one the page does not offer it.

    Raises:
        OSError, ValueError: one of them cannot be loaded.
    """

    def __init__(self, model: str | None = None, transcribe: str | None = None):
        self.judge = Judge(model, transcribe)
        self.folders: list[Path] = []
        atexit.register(self.delete_files)
        self.uploads = Uploads(self._own_folder(), age=KEPT[1])
        self.blocks = self._build()
        self.blocks.upload_file_set = self.uploads

    def launch(self, **options: Any) -> tuple[Any, str, str]:
        """Start the server. Options are those of Gradio's `launch`; those that keep visitors' data here are set."""
        self.blocks.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
        theme = gr.themes.Base(
            primary_hue="teal", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=CODE_FONTS, radius_size="lg"
        ).set(**CONTRAST)
        style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
        ours = {
            **{"theme": theme, "head": f"<style>{style}</style><script>{script}</script>"},
            **{"max_file_size": MOST_MEGABYTES * 2**20, "run_history": False, "footer_links": ["api"]},
            **{"share": False, "ssr_mode": False, "pwa": False, "mcp_server": False, "enable_monitoring": False},
        }
        return self.blocks.launch(**(options | ours))

    def delete_files(self) -> None:
        """Delete all that the page has on disk."""
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _temporary_folder(self, prefix: str) -> Path:
        self.folders.append(Path(tempfile.mkdtemp(prefix=prefix)).resolve())
        return self.folders[-1]

    def _own_folder(self) -> Path:
        """A folder for the uploads of this process alone, which Gradio uses from now on."""
        folder = self._temporary_folder("mmer-space-")
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        return folder

    # ── what is on it ───────────────────────────────────────────────────────────────────────────────────────────────

    def _build(self) -> gr.Blocks:
        with gr.Blocks(title="Which emotion comes across?", analytics_enabled=False, delete_cache=KEPT) as blocks:
            gr.Markdown(INTRODUCTION, elem_classes="mmer-introduction")
            with gr.Row(equal_height=False, elem_classes="mmer-columns"):
                with gr.Column(scale=4, min_width=300, elem_classes="mmer-inputs"):
                    inputs = self._inputs()
                    gr.HTML('<p class="mmer-place" role="status"></p>', apply_default_css=False, padding=False)
                    button = gr.Button("Judge", variant="primary", elem_id="mmer-judge")
                    self._examples(inputs[:2])
                with gr.Column(scale=9, min_width=300):
                    shown = gr.HTML(EMPTY, elem_id="mmer-answer", apply_default_css=False)
            first = gr.Textbox(visible=False)  # where the upload was at first: the browser sends it anew
            self._connect(inputs, first, button, shown)
            self._api()
        return blocks

    def _inputs(self) -> list[gr.components.Component]:
        """The recording, its text, and the options, in the order in which they are judged."""
        recording = recording_input(
            label="Recording", sources=["upload", "microphone"], buttons=[], elem_id="mmer-recording"
        )
        text = gr.Textbox(
            label="Words", placeholder="What is said, or any text", lines=3, max_lines=8, max_length=MOST_CHARACTERS
        )
        heard = gr.Checkbox(
            label="Write down the words that are heard",
            visible=self.judge.transcriber is not None,
            elem_id="mmer-transcribe",
        )
        with gr.Accordion("Who speaks (calls and conversations)", open=False):
            channels = gr.Radio(CHANNELS, value="auto", label="Channels of a stereo recording")
            turns = gr.File(
                label="Who speaks when: RTTM, or JSON of whisperX, Whisper or pyannote",
                file_types=[".rttm", ".json", ".txt", ".csv", ".tsv"],
                height=120,
            )
        return [recording, text, heard, channels, turns]

    def _examples(self, inputs: Sequence[gr.components.Component]) -> None:
        folder = self._temporary_folder("mmer-examples-")
        labels, *columns = zip(*make_examples(folder), strict=True)
        examples = [list(one) for one in zip(*columns, strict=True)]
        gr.set_static_paths(sorted({one for one, _ in examples if one}))  # served as they are, and not copied
        gr.Examples(
            examples,
            list(inputs),
            label="Examples (synthetic voices)",
            example_labels=list(labels),
            cache_examples=False,
        )

    def _connect(self, inputs: Sequence[Any], first: gr.Textbox, button: gr.Button, shown: gr.HTML) -> None:
        recording, text = inputs[:2]
        recording.change(None, [recording], js="mmer.keep", api_visibility="private")
        asked = {
            **{"fn": self._show, "inputs": [*inputs, first], "outputs": shown, "js": "mmer.send"},
            **{"concurrency_id": "judge", "concurrency_limit": AT_ONCE, "api_visibility": "private"},
        }
        for event in (button.click, text.submit):
            event(**asked, show_progress="full", trigger_mode="once").then(
                None, js="mmer.arrived", api_visibility="private"
            )

    # ── what it does ────────────────────────────────────────────────────────────────────────────────────────────────

    def _show(self, recording, text, transcribe, channels, turns, first, progress=gr.Progress()) -> str:  # noqa: B008
        """Judge what is on the page → HTML."""

        def report(done: int, total: int, what: str) -> None:
            progress((done, total), desc=what)

        try:
            with self.uploads.taken(recording, turns) as (recording, turns):
                answer = self.judge.judge(recording, text, channels, turns, transcribe, report)
            return answer_html(answer, self.judge.config)
        except Refused as error:
            return refusal_html(str(error))
        finally:
            self.uploads.forget(first)

    def _api(self) -> None:
        """The endpoint `/judge` for programs: the same inputs, JSON out."""
        with gr.Column(visible=False):
            inputs = [
                recording_input(label="recording"),
                gr.Textbox("", label="text"),
                gr.Radio(CHANNELS, value="auto", label="channels"),
                gr.Checkbox(label="transcribe"),
            ]
            gr.Button().click(
                self._answer_as_json,
                inputs,
                gr.JSON(label="answer"),
                api_name="judge",
                api_description="Judge a recording, a text or both.",
                concurrency_id="judge",
                concurrency_limit=AT_ONCE,
            )

    def _answer_as_json(
        self, recording: str | None = None, text: str = "", channels: Channels = "auto", transcribe: bool = False
    ) -> dict[str, Any]:
        try:
            with self.uploads.taken(recording) as (recording,):
                return as_json(self.judge.judge(recording, text, channels, transcribe=transcribe))
        except Refused as error:
            raise gr.Error(str(error)) from error


def as_json(answer: Answer) -> dict[str, Any]:
    """An answer as the endpoint `/judge` gives it."""
    title, sure = wording.headline(answer)
    return {
        **{"headline": title, "sureness": sure, "comparison": wording.comparison(answer.ways)},
        **{"notes": wording.notes(answer), "caution": wording.CAUTION, "answers": answer.ways},
        **{"over_time": answer.over_time, "seconds": answer.seconds, "transcript": answer.transcript},
    }
