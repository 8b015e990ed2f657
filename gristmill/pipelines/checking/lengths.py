"""What a tokenizer and its chat template say of rows: how long they are, and what the template refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from gristmill.core.errors import RecipeError
from gristmill.core.exports import Contents
from gristmill.pipelines.checking.chats import ChatTurn, said
from gristmill.pipelines.checking.typed import Fault
from gristmill.pipelines.exports.stepwise import encoder

Render = Callable[[list[dict[str, Any]]], str]


class TokenLengths:
    """Measures rows by the tokenizer called ``name``: a ``tokenizer.json``, a folder with one and its chat
    template, or a model's name.

    ``RecipeError`` for what is not a tokenizer. Without a chat template the texts alone are counted.
    """

    def __init__(self, name: str, longest: int | None, contents: Contents) -> None:
        self._encode = encoder(name)
        self._render = _template(name)
        self._longest = longest
        self._contents = contents

    def faults(self, row: dict[str, Any]) -> Iterator[Fault]:
        """A row that is too long, or that the template refuses."""
        import jinja2

        counts = []
        for turns in self._talks(row):
            try:
                text = self._text(turns)
            except (jinja2.TemplateError, TypeError) as error:
                yield Fault("the chat template refuses it", str(error))
                return
            counts.append(len(self._encode(text)))
        if not counts:
            counts = [sum(len(self._encode(v)) for v in row.values() if isinstance(v, str))]
        if self._longest is not None and max(counts) > self._longest:
            yield Fault(f"longer than {self._longest:,} tokens", f"{max(counts):,} tokens")

    def _talks(self, row: dict[str, Any]) -> Iterator[list[ChatTurn]]:
        """The conversations that the trainer makes of a row."""
        for name in self._contents.whole:
            yield said(row.get(name))
        for name in self._contents.prompts:
            prompt = said(row.get(name))
            for answer in self._contents.answers:
                yield prompt + said(row.get(answer))
            if not self._contents.answers:
                yield prompt

    def _text(self, turns: list[ChatTurn]) -> str:
        if self._render is None:
            return "\n".join(str(turn.content) for turn in turns)
        return self._render([{"role": turn.role, "content": turn.content} for turn in turns])


def _template(name: str) -> Render | None:
    """The chat template that lies in a folder with a tokenizer, or a model's; ``None`` without one."""
    text = _folder_template(Path(name)) if Path(name).exists() else _model_template(name)
    if not text:
        return None
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(reason: str) -> str:
        raise jinja2.TemplateError(reason)

    rules = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    rules.globals["raise_exception"] = refuse
    try:
        made = rules.from_string(text)
    except jinja2.TemplateError as error:
        raise RecipeError(
            f"the chat template of {name!r} is not valid: {error}.",
            remedy="Correct it, or give the tokenizer.json alone.",
        ) from error
    return lambda messages: made.render(messages=messages, bos_token="", eos_token="")


def _folder_template(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    if not settings.is_file():
        return ""
    try:
        held = msgspec.json.decode(settings.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise RecipeError(f"{settings} is not a JSON object: {error}.", remedy="Correct it.") from error
    found = held.get("chat_template")
    return found if isinstance(found, str) else ""


def _model_template(name: str) -> str:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(name).chat_template
    return found if isinstance(found, str) else ""
