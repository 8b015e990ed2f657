"""Names find their objects, however they were registered."""

import pytest

from gristmill.core import registry
from gristmill.core.errors import RecipeError


@pytest.fixture(autouse=True)
def forget() -> object:
    yield
    registry._entries.cache_clear()


@pytest.mark.parametrize("group", ["engines", "verifiers", "stages", "exports"])
def test_every_built_in_can_be_loaded(group: registry.Group) -> None:
    assert registry.names(group)
    for name in registry.names(group):
        assert callable(registry.find(group, name)), name


def test_one_call_registers_a_verifier_for_this_process() -> None:
    registry.register("verifiers", "always_json", "json:loads")
    assert registry.locate("verifiers", "always_json") == "json:loads"
    assert registry.find("verifiers", "always_json")("[1]") == [1]
    registry.register("verifiers", "always_json", "json:loads")
    with pytest.raises(RecipeError, match="is json:loads already"):
        registry.register("verifiers", "always_json", "json:dumps")
    with pytest.raises(RecipeError, match="MODULE:OBJECT"):
        registry.register("verifiers", "other", "json")


def test_an_unknown_name_suggests_the_nearest_and_says_of_what_kind_it_is() -> None:
    with pytest.raises(RecipeError, match=r"unknown engine 'opnai'\. Did you mean 'openai'\?"):
        registry.find("engines", "opnai")
    with pytest.raises(RecipeError, match=r"Known: alpaca, axolotl-chat, "):
        registry.find("exports", "qqqq")
