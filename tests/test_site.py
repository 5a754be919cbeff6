"""The documentation site builds without a warning, all of its links lead somewhere on it, it loads nothing from other
servers, and its API pages show what the code says."""

import dataclasses
import inspect
import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

import modeling_mmer
from modeling_mmer.scoring import Scorer
from modeling_mmer.training.arguments import RunArguments


class Html(HTMLParser):
    """`links` to other places, what is loaded with the page (`loads`), the `anchors` on it, and its `text`."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.loads, self.anchors, self.text = [], [], set(), ""
        self.feed(html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors.update(value for name, value in attributes.items() if name in ("id", "name"))
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loads.append(attributes["href"])
        elif "src" in attributes:
            self.loads.append(attributes["src"])

    def handle_data(self, data):
        self.text += data


def built(folder: Path, config: Path) -> dict[str, Html]:
    build(load_config(str(config), site_dir=str(folder), strict=True))
    return {
        page.relative_to(folder).as_posix(): Html(page.read_text(encoding="utf-8")) for page in folder.rglob("*.html")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(folder) -> dict[str, Html]:
    return built(folder, REPOSITORY / "mkdocs.yml")


def missing(pages: dict[str, Html], folder: Path) -> list[str]:
    """Links and loads of pages that are neither a file of the site nor an anchor on it."""
    found = []
    for name, page in pages.items():
        for link in (*page.links, *page.loads):
            if re.match(r"\w+:", link) or name == "404.html":  # whose links are absolute
                continue
            path, _, anchor = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            anchors = pages[target].anchors if target in pages else set()
            if not (folder / target).is_file() or anchor and anchor not in anchors:
                found.append(f"{name}: {link}")
    return found


def test_every_link_leads_somewhere_on_the_site(site, folder):
    assert sum(len(page.links) for page in site.values()) > 1000
    assert not missing(site, folder)


def test_nothing_is_loaded_from_other_servers(site, folder):
    assert not [(name, load) for name, page in site.items() for load in page.loads if "//" in load]
    styles = [style.read_text(encoding="utf-8") for style in folder.rglob("*.css")]
    assert styles and not [style for style in styles if re.search(r"(?:url\(|@import)\s*[\"']?https?:", style)]


def test_the_readme_is_the_first_page_and_files_outside_docs_are_on_the_site(site):
    (start,) = [page for name, page in site.items() if name == "index.html"]
    assert "Emotion recognition from speech, from text, or from both" in start.text
    assert {"use.html", "repository/CITATION.cff.html"} <= set(start.links)
    assert "class Scorer:" in site["repository/modeling_mmer/scoring/scorer.py.html"].text
    assert "modeling_mmer.pipeline()" in site["quickstart.html"].text


def test_public_names_and_their_parameters_are_on_the_api_pages(site):
    api = {name: page for name, page in site.items() if name.startswith("api/")}
    anchors = set().union(*(page.anchors for page in api.values()))
    assert {f"modeling_mmer.{name}" for name in modeling_mmer.__all__} <= anchors
    for page, function in (("api/scoring.html", Scorer), ("api/corpora.html", modeling_mmer.corpora.load_corpora)):
        for name in inspect.signature(function).parameters:
            assert re.search(rf"\b{name} \([^–]{{1,160}}\) – ", api[page].text), name
    assert "hidden_size (int, default: 128 ) – Width of the shared transformer." in api["api/model.html"].text
    own = [field for field in dataclasses.fields(RunArguments) if field.name in RunArguments.__annotations__]
    assert len(own) > 20
    for field in own:
        assert field.metadata["help"] in api["api/training.html"].text, field.name


@pytest.fixture
def small(tmp_path) -> Path:
    """A repository with a few pages that link to each other and to its code, and the settings of ours."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "docs/picture.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    readme = '# First\n\n[guide](docs/guide.md#a-part) [code](code/a.py)\n\n<img src="docs/picture.svg">\n'
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "code/a.py").write_text("print('a')\n")
    (tmp_path / "code/b.md").write_text("# B\n\n[a](a.py) [guide](../docs/guide.md)\n")
    (tmp_path / "docs/guide.md").write_text("# Guide\n\n## A part\n\n[first](../README.md) [b](../code/b.md#b)\n")
    settings = {
        "INHERIT": str(REPOSITORY / "mkdocs.yml"),
        "hooks": [str(REPOSITORY / "scripts/site_pages.py")],
        "nav": [{"First": "index.md"}, {"Guide": "guide.md"}],
        "plugins": [],
    }
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_links_of_the_repository_lead_to_pages(small):
    site = built(small / "built", small / "mkdocs.yml")
    assert {"guide.html#a-part", "repository/code/a.py.html"} <= set(site["index.html"].links)
    assert {"index.html", "repository/code/b.html#b"} <= set(site["guide.html"].links)
    assert {"a.py.html", "../../guide.html"} <= set(site["repository/code/b.html"].links)
    assert "picture.svg" in site["index.html"].loads and not missing(site, small / "built")


@pytest.mark.parametrize(
    "line", ["[gone](absent.md)", "[gone](guide.md#absent)", "[gone](../code/absent.py)", "[root](/guide.md)"]
)
def test_a_link_that_leads_nowhere_is_an_error(small, line):
    with open(small / "docs/guide.md", "a") as page:
        page.write(f"\n{line}\n")
    with pytest.raises(Abort, match="1 warning"):
        built(small / "built", small / "mkdocs.yml")


def test_a_page_that_is_not_in_the_menu_is_an_error(small):
    (small / "docs/other.md").write_text("# Other\n")
    with pytest.raises(Abort, match="1 warning"):
        built(small / "built", small / "mkdocs.yml")
