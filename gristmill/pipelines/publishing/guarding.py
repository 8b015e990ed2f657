"""No key leaves with a push: what is about to go up is searched for the ones that this machine holds, and for
what is written like one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from gristmill.core.errors import InputError
from gristmill.core.secrets import KEY_FORMS, why_secret
from gristmill.pipelines.publishing.hub import PushedFile

_KEY = re.compile(rf"(?<![\w-])(?:{KEY_FORMS})(?![\w-])")
_BATCH = 2_000


def own_secrets() -> list[str]:
    """The token of the Hub, and the values of environment variables that are named or written like keys."""
    from huggingface_hub import get_token

    found = [value for name, value in os.environ.items() if why_secret(name, value)]
    token = get_token()
    return [*found, *([token] if token else [])]


def refuse_keys(files: Sequence[PushedFile], *, allow_forms: bool = False) -> None:
    """Raise ``InputError`` for a file that holds a key; the message has its place and never the key.

    ``allow_forms`` lets through what is only written like a key, for rows that are about such texts; a key
    that this machine holds is refused always.
    """
    own = own_secrets()
    for file in files:
        for number, text in _texts(file):
            if any(secret in text for secret in own):
                raise InputError(
                    "it holds a key of this machine (the Hub's token, or one from the environment).",
                    path=file.path,
                    row=number,
                    remedy="Find out how it came there, take it out of the rows with the stage 'redact', "
                    "and make a new key.",
                )
            if not allow_forms and _KEY.search(text):
                raise InputError(
                    "it holds what is written like a key.",
                    path=file.path,
                    row=number,
                    remedy="Take it out with the stage 'redact', or give --allow-keys if it is none.",
                )


def _texts(file: PushedFile) -> Iterator[tuple[int | None, str]]:
    """The text of a file, by rows where it has some."""
    if not file.path.endswith(".parquet"):
        held = file.held if isinstance(file.held, bytes) else file.held.read_bytes()
        yield None, held.decode("utf-8", "replace")
        return
    import polars as pl
    import pyarrow.parquet as pq

    assert isinstance(file.held, Path)
    number = 0
    for batch in pq.ParquetFile(file.held).iter_batches(_BATCH):
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        for line in frame.write_ndjson().splitlines():
            number += 1
            yield number, line
