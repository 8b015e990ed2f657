"""The Hub's own client against a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hub_server import TOKEN, HubServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[HubServer]:
    from huggingface_hub import constants

    with HubServer() as found:
        # What HF_ENDPOINT, HF_TOKEN and HF_HUB_DISABLE_XET set when the client is imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found
