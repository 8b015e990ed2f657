"""``croissant.json``: the data set for machines, with the responsible-AI fields.

The vocabulary is that of Croissant 1.1 (docs.mlcommons.org/croissant) and of its RAI extension 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gristmill.pipelines.publishing.facts import RunFacts
from gristmill.pipelines.publishing.manifest import Manifest

CROISSANT = "croissant.json"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
    "wd": "https://www.wikidata.org/wiki/",
}
_TYPES = {"string": "sc:Text", "bool": "sc:Boolean", "double": "sc:Float", "float": "sc:Float"}
_ID = re.compile(r"[^A-Za-z0-9_./-]")


def croissant(facts: RunFacts, manifest: Manifest) -> bytes:
    """The file's bytes."""
    found = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": facts.title,
        "description": facts.about,
        "url": facts.url,
        "version": f"{len(manifest.pushes)}.0.0",
        "keywords": facts.tags,
        "citeAs": "\n\n".join(paper.bibtex for paper in facts.papers),
        "creator": [{"@type": "sc:Person", "name": name} for name in facts.card.authors],
        "license": facts.card.licence,
        "inLanguage": facts.card.languages,
        **_responsible(facts),
        "distribution": list(_distribution(facts, manifest)),
        "recordSet": [_record_set(config, columns) for config, columns in manifest.columns.items()],
    }
    held = {key: value for key, value in found.items() if value}
    return msgspec.json.format(msgspec.json.encode(held), indent=2) + b"\n"


def _responsible(facts: RunFacts) -> dict[str, Any]:
    """What the RAI extension asks, as far as the run and its recipe's card tell it."""
    return {
        "rai:dataCollection": facts.made_by,
        "rai:dataCollectionType": ["Synthetic"] if facts.models else [],
        "rai:dataCollectionRawData": "; ".join(facts.sources),
        "rai:dataPreprocessingProtocol": facts.steps,
        "rai:machineAnnotationTools": facts.judged_by,
        "rai:dataLimitations": facts.limits,
        "rai:dataUseCases": [facts.card.uses] if facts.card.uses else [],
        "rai:personalSensitiveInformation": (
            [facts.card.personal_information] if facts.card.personal_information else []
        ),
    }


def _distribution(facts: RunFacts, manifest: Manifest) -> Iterator[dict[str, Any]]:
    yield {
        "@type": "cr:FileObject",
        "@id": "repo",
        "name": "repo",
        "description": "The repository.",
        "contentUrl": facts.url,
        "encodingFormat": "git+https",
        "sha256": "https://github.com/mlcommons/croissant/issues/80",
    }
    for config, splits in manifest.configs.items():
        yield {
            "@type": "cr:FileSet",
            "@id": f"files-{config}",
            "containedIn": {"@id": "repo"},
            "encodingFormat": "application/x-parquet",
            "includes": [f"data/{config}/{split}-*.parquet" for split in splits],
        }
    for path, file in manifest.files.items():
        yield {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "containedIn": {"@id": "repo"},
            "contentUrl": path,
            "encodingFormat": "application/x-parquet",
            "contentSize": f"{file.size} B",
            "sha256": file.sha256,
        }


def _record_set(config: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "field": [_field(f"{config}/{name}", name, kind, config, name) for name, kind in columns.items()],
    }


def _field(place: str, name: str, kind: Any, config: str, column: str, path: str = "") -> dict[str, Any]:
    """A column or a part of one; lists are repeated fields, what is within a struct are sub-fields."""
    field: dict[str, Any] = {"@type": "cr:Field", "@id": _ID.sub("-", place), "name": name}
    while isinstance(kind, dict) and "list" in kind:
        field["repeated"] = True
        kind, path = kind["list"], f"{path}[*]"
    source: dict[str, Any] = {"fileSet": {"@id": f"files-{config}"}, "extract": {"column": column}}
    if path and path != "[*]":
        source["transform"] = [{"jsonPath": path.lstrip(".")}]
    field["source"] = source
    if isinstance(kind, dict):
        field["subField"] = [
            _field(f"{place}/{inner}", inner, held, config, column, f"{path}.{inner}")
            for inner, held in kind["struct"].items()
        ]
    else:
        field["dataType"] = _TYPES.get(kind, "sc:Integer" if "int" in kind else "sc:Text")
    return field
