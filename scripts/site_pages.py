"""The pages of the documentation site that are not Markdown files in `docs/`: a hook of MkDocs (`mkdocs.yml`).

The README is the first page, and notebooks in `docs/` are pages. So is each file outside `docs/` that a page links to:
the site needs no address of the repository. Links are written for the repository, and lead to these pages here.
"""

import json
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.structure.files import File, Files, InclusionLevel

LINK = re.compile(r'(?<=\]\()[^)\s]+|(?<=src=")[^"]+')
AS_THEY_ARE = (".png", ".svg", ".html")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cff": "yaml", ".json": "json", ".toml": "toml"}

sources: dict[str, str] = {}  # file of the site → the file of the repository that it is made from


def on_files(files: Files, config) -> Files:
    """Add the pages. Reports in HTML get another name, because the README beside them is the index of the folder."""
    root = Path(config.config_file_path).parent
    sources.clear()
    sources.update({file.src_uri: f"docs/{file.src_uri}" for file in files})
    files.append(made("README.md", "index.md", root, config))
    for pattern, name in (("*.ipynb", "{}.md"), ("tables/**/index.html", "report.html")):
        for path in (root / "docs").glob(pattern):
            uri = path.with_name(name.format(path.stem)).relative_to(root / "docs").as_posix()
            files.append(made(path.relative_to(root).as_posix(), uri, root, config))
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for path in linked(page.content_string, sources[page.src_uri]):
            if path not in sources.values() and (root / path).is_file():
                uri = f"repository/{path}" if path.endswith((".md", *AS_THEY_ARE)) else f"repository/{path}.md"
                file = made(path, uri, root, config)
                file.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(file)
                waiting.extend([file] if file.is_documentation_page() else [])
    return files


def on_page_markdown(markdown: str, page, files: Files, **_) -> str:
    """Lead links to files that have a page to these pages."""
    here, source = page.file.src_uri, sources[page.file.src_uri]
    pages = {path: uri for uri, path in sources.items()}  # of a notebook, the page, which was added last

    def lead(found: re.Match) -> str:
        path, hash, anchor = found[0].partition("#")
        target = pages.get(resolved(path, source)) if path else None
        if target is None:
            return found[0]
        if found.string[: found.start()].endswith('src="'):  # MkDocs leaves HTML as it is, and needs not move pictures
            target = files.src_uris[target].dest_uri
        return posixpath.relpath(target, posixpath.dirname(here) or ".") + hash + anchor

    return LINK.sub(lead, markdown)


def linked(text: str, source: str) -> Iterator[str]:
    """The paths, in the repository, of what the text of a file links to."""
    for link in LINK.findall(text):
        path = link.partition("#")[0]
        if path and "://" not in path:
            yield resolved(path, source)


def resolved(path: str, source: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), path))


def made(path: str, uri: str, root: Path, config) -> File:
    """A file of the site from one of the repository: a page from Markdown, from the cells of a notebook or from source
    text, or a picture as it is."""
    sources[uri] = path
    if path.endswith(AS_THEY_ARE):
        return File.generated(config, uri, abs_src_path=os.fspath(root / path))
    text = (root / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        text = notebook(json.loads(text), Path(path).name)
    elif not path.endswith(".md"):
        text = f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"
    return File.generated(config, uri, content=text)


def notebook(content: dict, name: str) -> str:
    """The cells of a notebook, below a link to the notebook itself."""
    cells = []
    for cell in content["cells"]:
        text = "".join(cell["source"])
        cells.append(f"```python\n{text}\n```" if cell["cell_type"] == "code" else text)
    title, *rest = cells
    return "\n\n".join([title, f'<a href="{name}" download>The notebook</a>', *rest])
