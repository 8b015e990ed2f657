"""Plain English in what users and readers see: string literals and docstrings of the package, and the pages.

``python tests/test_english.py`` prints each place in the whole tree with a phrase of the list, and counts by
folder.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PHRASES = {
    r"(?<!there )\b(?:is|are|was|were) no (?!(?:longer|more|less|fewer|better|worse)\b)\w+": "is not a ...",
    r"\b(?:go|goes|going|gone|went) on (?:with|where|from)\b": "continue",
    r"\bmend(?:s|ed|ing)?\b": "fix, correct",
    r"\bbut for\b": "except for",
    r"\bwho(?:m|so)?ever\b": "anyone who, all that",
    r"\bfor ever\b": "forever",
    r"\bstands? in (?!for\b)": "is in, occurs in",
    r"\b(?:is|are|be) had\b": "is available",
    r"\bwithout a word\b": "silently",
    r"\bunasked\b": "without being asked",
    r"\bno \w+ may\b": "cannot, must not",
    r"\bthat (?:it|they) ha(?:s|ve|d) not\b": "that it does not have",
    r"\b(?:thereof|whence|lest|hither|thither|nought|therein|wherein|whereof|hitherto)\b": "a common word",
    r"\brows tasks\b": "rows as tasks",
    r"\[(?:MEM|OURS|CODE|2ND|ABS)\]": "say in words where it was read",
}
"""Patterns of phrases, and what to write instead."""
PATTERN = re.compile("|".join(PHRASES), re.IGNORECASE)
CHECKED = ["gristmill", "docs", "README.md", "CHANGELOG.md"]
PROMPTS = ("whether or not a later step mends it", "a delimiter that stands in it counts")
"""Texts that a model is sent keep their words: other words are other requests to the completion log."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The string literals of a module, or the lines of a page, with their line numbers."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())


def files(place: str) -> list[Path]:
    path = ROOT / place
    found = [path] if path.is_file() else sorted([*path.rglob("*.py"), *path.rglob("*.md")])
    return [one for one in found if one.parent != ROOT / "docs" / "reference"]  # made of docstrings


def offenders(place: str) -> list[str]:
    found = []
    for path in files(place):
        name = path.relative_to(ROOT).as_posix()
        for line, text in texts(path):
            for hit in PATTERN.finditer(text):
                around = text[max(0, hit.start() - 60) : hit.end() + 60]
                if not any(prompt in " ".join(around.split()) for prompt in PROMPTS):
                    found.append(f"{name}:{line}: ...{around}...")
    return found


@pytest.mark.parametrize(
    ("text", "is_offender"),
    [
        ("'x' is no verifier", True),
        ("There is no verifier 'x'.", False),
        ("it is no longer there", False),
        ("Mend the cause", True),
        ("amendment", False),
        ("all but for one", True),
        ("a stand in for it", False),
        ("the word stands in the text", True),
        ("the rest is [OURS]", True),
    ],
)
def test_the_list_finds_phrases_and_not_their_neighbours(text: str, is_offender: bool) -> None:
    assert bool(PATTERN.search(text)) is is_offender


def test_errors_and_docs_are_in_plain_english() -> None:
    found = [line for place in CHECKED for line in offenders(place)]
    assert not found, "\n".join(found)


if __name__ == "__main__":
    everything = [line for place in CHECKED for line in offenders(place)]
    print("\n".join(everything))
    for folder, count in sorted(Counter(str(Path(line.split(":")[0]).parent) for line in everything).items()):
        print(f"{count:4} {folder}")
