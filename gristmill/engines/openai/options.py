"""What a recipe says about a server that speaks the OpenAI chat completions protocol."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gristmill.core.secrets import refuse_secrets
from gristmill.engines.options import ServedOptions

ContinueMode = Literal["auto", "vllm", "prefill", "none"]
AbilityName = Literal["chat", "continue", "logprobs", "score", "seed", "many", "tools"]
DEFAULT_ABILITIES: tuple[AbilityName, ...] = ("chat", "continue", "logprobs", "seed", "many", "tools")
FieldName = Annotated[str, Meta(min_length=1)]
Headers = dict[Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")], str]


class ModelOptions(ServedOptions, frozen=True, kw_only=True):
    """How a model is asked over the protocol, wherever it is served."""

    model: Annotated[str, Meta(min_length=1)]
    """The model's name, as the server knows it."""
    api_key_env: str | tuple[str, ...] = "OPENAI_API_KEY"
    """The environment variable with the API key, which is read when the engine is opened; may be unset. Of
    a list of variables the keys are used in turn; one that is refused or out of quota is not used again."""
    api_key_header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$")] = "Authorization"
    """The header in which the key is sent: ``Authorization`` as ``Bearer KEY``, any other as it is (Azure's
    ``api-key``)."""
    headers: Headers = msgspec.field(default_factory=dict)
    """Further headers of each request. A value ``$NAME`` is read from the environment variable; a value
    that looks like a secret is refused."""
    query: dict[str, str] = msgspec.field(default_factory=dict)
    """Parameters behind the URL, such as ``api-version``. Values as in ``headers``."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Further fields of each request's body, such as ``chat_template_kwargs``; part of the log's key."""
    omit: tuple[FieldName, ...] = ()
    """Fields of the body that are not sent, such as ``seed``, ``top_p`` or ``temperature``, for servers
    that refuse them. The server's own values are then used, so they are part of the log's key, except
    ``seed``."""
    rename: dict[FieldName, FieldName] = msgspec.field(default_factory=dict)
    """Other names for fields of the body: ``{seed: random_seed}``."""
    continue_mode: ContinueMode = "auto"
    """How an assistant turn is continued. ``vllm`` (and SGLang): a last assistant message with
    ``continue_final_message``. ``prefill``: a last assistant message alone, as llama-server continues
    it; if the server repeats the prefix, it is removed from the answer. ``auto`` asks ``/models`` before
    the first request which server it is. ``none``: the server cannot continue a turn."""
    abilities: tuple[AbilityName, ...] = DEFAULT_ABILITIES
    """What the server can do. Leave out ``seed`` if it takes none, ``many`` if it ignores or limits ``n``
    (llama-server accepts at most as many as it has parallel slots), and ``tools`` if its model calls none.
    Add ``score`` for a vLLM server, the only kind that returns the log-probabilities of a given text (see
    ``scoring``)."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the field for the token limit; some hosted models accept only the second."""
    revision: str = ""
    """The commit or version of the model that is served, where the name does not say it; part of the log's
    key."""
    weights: str = ""
    """What else tells these weights from others of that name: a quantization, an adapter, a hash; part of
    the log's key."""
    on_model_change: Literal["stop", "note"] = "stop"
    """What is done when the server's answers begin to report another ``model`` in mid-run: ``stop`` the
    run, which can be resumed, or ``note`` it, for routers that choose a model for each request."""

    def __post_init__(self) -> None:
        plain = {name: getattr(self, name) for name in ("api_key_env", "headers", "query", "extra")}
        refuse_secrets({**plain, "api_key_env": list(self.key_names)})

    @property
    def key_names(self) -> tuple[str, ...]:
        """The environment variables with the keys."""
        return (self.api_key_env,) if isinstance(self.api_key_env, str) else self.api_key_env

    @property
    def identity(self) -> str:
        """The model as the log's key has it: its name, and what changes what it says."""
        changes = {
            "omit": sorted(set(self.omit) - {"seed"}),
            "revision": self.revision,
            "weights": self.weights,
        }
        said = self.extra | {f"gristmill.{name}": value for name, value in changes.items() if value}
        return (
            self.model
            + (f" {msgspec.json.encode(said, order='sorted').decode()}" if said else "")
            + self.reading
        )


class ServerOptions(ModelOptions, frozen=True, kw_only=True):
    """The options of ``kind: openai``, which ``gristmill.engines.openai.engine.OpenAI`` opens."""

    base_url: Annotated[
        str, Meta(pattern="^https?://", description="a URL that begins with http:// or https://")
    ]
    """The server's base URL, which ends in ``/v1`` with most servers: ``http://HOST:PORT/v1``."""
