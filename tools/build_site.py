"""Write the reference pages and ``docs/llms.txt``, and build the site with Zensical.

python tools/build_site.py            # all of it, into build/site; any warning of Zensical ends it
python tools/build_site.py --pages    # only docs/reference and docs/llms.txt
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
LLMS = DOCS / "llms.txt"


def settings() -> dict[str, Any]:
    """What ``mkdocs.yml`` says."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return found


def leaves(nav: list[Any]) -> Iterator[tuple[str, str]]:
    """The pages of a part of the navigation, each with its title there; "" where it has none of its own."""
    for entry in nav:
        if isinstance(entry, str):
            yield "", entry
            continue
        for title, below in entry.items():
            yield from leaves(below) if isinstance(below, list) else [(title, below)]


def first_sentence(text: str) -> str:
    """The first sentence of a page's prose, as text without links."""
    body = re.sub(r"^(```|~~~).*?^\1\s*$", "", text.partition("\n")[2], flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.split(r"\n\s*\n", body):
        if paragraph.strip() and not re.match(r"\s{4}|\s*[#|<-]", paragraph.lstrip("\n")):
            plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
            return re.split(r"(?<=\.)\s(?=[A-Z`])", plain, maxsplit=1)[0].rstrip(":").replace("\\", "")
    return ""


def llms(pages: dict[str, str]) -> str:
    """The text of ``llms.txt`` (https://llmstxt.org): a heading, a summary, and the pages by section."""
    said = settings()
    lines = [f"# {said['site_name']}", "", f"> {said['site_description']}"]
    for section in said["nav"]:
        [(title, below)] = section.items()
        lines += ["", f"## {title}", ""]
        for _, page in leaves(below):
            text = pages[page]
            heading = text.partition("\n")[0].removeprefix("# ").replace("`", "")
            lines.append(f"- [{heading}]({page}): {first_sentence(text)}")
    return "\n".join(lines) + "\n"


def written(generated: dict[str, str]) -> dict[str, str]:
    """Every page by its path below ``docs``: those that are written by hand, and ``generated`` ones."""
    by_hand = (path for path in sorted(DOCS.rglob("*.md")) if REFERENCE not in path.parents)
    pages = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in by_hand}
    return pages | {f"reference/{name}": text for name, text in generated.items()}


def write_pages() -> dict[str, str]:
    """Write the reference pages and ``llms.txt``; all pages by their paths."""
    generated = reference.pages()
    shutil.rmtree(REFERENCE, ignore_errors=True)
    REFERENCE.mkdir()
    for name, text in generated.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    pages = written(generated)
    LLMS.write_text(llms(pages), encoding="utf-8")
    return pages


def main() -> int:
    """Do what the arguments ask for; the status is Zensical's."""
    pages = write_pages()
    if "--pages" in sys.argv[1:]:
        return 0
    done = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT)
    if done.returncode == 0:
        site = ROOT / settings()["site_dir"]
        for page, text in pages.items():  # llms.txt links to the pages as they are written
            (site / page).parent.mkdir(parents=True, exist_ok=True)
            (site / page).write_text(text, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
