"""A hook of MkDocs: a page of the reference for every public module, an index of them, and links out of the folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
FOLDERS = {"eip": ROOT / "eip", "eip.patterns": ROOT / "patterns", "eip.transports": ROOT / "transports"}


def public_modules() -> Iterator[tuple[str, list[str], str]]:
    """Name, public names and first sentence of each module with an ``__all__`` and no underscore in its path."""
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            place = path.relative_to(folder).with_suffix("")
            parts = place.parts[:-1] if place.name == "__init__" else place.parts
            if any(part.startswith("_") or part in {"patterns", "transports"} for part in parts):
                continue
            tree = ast.parse(path.read_text())
            names = _all_of(tree)
            if names:
                yield ".".join([package, *parts]), names, (ast.get_docstring(tree) or "").partition("\n")[0]


def _all_of(tree: ast.Module) -> list[str]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return [str(each) for each in ast.literal_eval(value)]
    return []


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages; MkDocs calls it once it has read the folder."""
    lines = ["# Reference", "", "Every public name, by module.", ""]
    for module, names, summary in public_modules():
        page = f"reference/{module}.md"
        files.append(
            File.generated(
                config, page, content=f"# {module}\n\n::: {module}\n    options:\n      show_root_heading: false\n"
            )
        )
        lines += [f"- [`{module}`]({module}.md): {summary}", f"    `{'`, `'.join(names)}`"]
    files.append(File.generated(config, "reference/index.md", content="\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, config: Any, page: Any, **_: Any) -> str:
    """Point links that lead out of docs/ (examples, the licence) to the repository."""
    out = "../" * (page.file.src_uri.count("/") + 1)
    return markdown.replace(f"]({out}", f"]({config.repo_url}/blob/main/")
