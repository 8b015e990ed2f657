"""What is said of any model that Transformers loads in this process."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gristmill.core.errors import MissingExtraError, RecipeError
from gristmill.engines.options import ReadingOptions
from gristmill.engines.weights import MODEL_FILES, file_identity, folder_identity


class LocalModel(ReadingOptions, frozen=True, kw_only=True):
    """A model that Transformers loads, of whichever kind."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory in the format of Transformers, or the name of a repository on the Hub."""
    revision: str = ""
    """The commit or branch of a repository on the Hub; empty for its main one. Part of the log's key."""
    chat_template: str = ""
    """A file with a Jinja chat template; empty for the model's own. A base model often has none."""
    chat_template_kwargs: dict[str, Any] = msgspec.field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking: false``. They are part of the log's key."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The numbers to compute with; ``auto`` are those of the weights. With 16 bits, what else is in a batch
    can change the last digits of a log-probability. Part of the log's key."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; ``auto`` takes an accelerator if there is one."""
    batch: Annotated[int, Meta(ge=1)] = 8
    """The most conversations to compute at a time."""
    context: Annotated[int, Meta(ge=2)] | None = None
    """The most tokens of a conversation with its answer; ``null`` is what the model was made for. Part of the
    log's key."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model is run in this process. Read it first."""

    @property
    def self_paced(self) -> bool:
        """Always: requests wait here until there is room in a batch."""
        return True

    def check(self) -> None:
        """``MissingExtraError`` without torch and Transformers, ``RecipeError`` for a path that is not
        there."""
        for package in ("torch", "transformers"):
            if importlib.util.find_spec(package) is None:
                raise MissingExtraError(
                    f"{package} (for local models)", install="pip install 'gristmill[train]'"
                )
        if self.model.startswith((".", "/", "~")) and not (Path(self.model) / "config.json").is_file():
            raise RecipeError(
                f"model: {self.model!r} has no config.json.",
                remedy="Give a directory in the format of Transformers, or the name of a repository on the "
                "Hub.",
            )
        if self.chat_template and not Path(self.chat_template).is_file():
            raise RecipeError(
                f"chat_template: the file {self.chat_template!r} does not exist.", remedy="Check the path."
            )

    @property
    def identity(self) -> str:
        """The model's part of the log's keys: the weights, and all that changes what it says."""
        folder = Path(self.model)
        parts = [folder_identity(folder, MODEL_FILES) if folder.is_dir() else self.model, "transformers"]
        parts += [self.revision] if self.revision else []
        parts += [f"context={self.context}"] if self.context is not None else []
        parts += [f"dtype={self.dtype}"] if self.dtype != "auto" else []
        parts += [f"template={file_identity(Path(self.chat_template))}"] if self.chat_template else []
        if self.chat_template_kwargs:
            parts.append(msgspec.json.encode(self.chat_template_kwargs, order="sorted").decode())
        return " ".join(parts) + self.reading
