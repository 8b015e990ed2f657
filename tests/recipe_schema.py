"""The JSON Schema of recipes as a validator, made once: it is large, and to check it takes seconds."""

from __future__ import annotations

from functools import cache

import jsonschema

from gristmill.pipelines.recipe.schema import json_schema


@cache
def validator() -> jsonschema.Draft202012Validator:
    """A validator of recipes."""
    return jsonschema.Draft202012Validator(json_schema())
