"""The card and croissant.json: valid for the Hub's own checks, and nothing of a model becomes markup."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_server import HubServer

from gristmill.pipelines.publishing import push
from gristmill.pipelines.publishing.citations import contamination_recall, papers_of
from gristmill.pipelines.publishing.markup import bars, code, fenced, plain, table
from gristmill.pipelines.recipe.plain import document
from gristmill.pipelines.rundir.results import Run

FENCE = re.compile(r"^(`{3,})[a-z]*$")
VALIDATOR = shutil.which("mlcroissant", path=str(Path(sys.executable).parent)) or shutil.which("mlcroissant")


def outside_of_code(card: str) -> str:
    """A card without its head, its blocks of code and its code in lines, as Markdown reads them."""
    kept, fence = [], ""
    for line in card.split("---\n", 2)[2].splitlines():
        if fence:
            fence = "" if line == fence else fence
        elif found := FENCE.match(line):
            fence = found[1]
        else:
            kept.append(line)
    assert not fence
    return re.sub(r"(`+)(?!`).*?[^`]\1(?!`)", "", "\n".join(kept))


@pytest.fixture
def card(sums: Run) -> str:
    return push(sums, "miller/sums", dry_run=True).card


def test_head_is_what_the_hub_takes(card: str) -> None:
    from huggingface_hub import DatasetCard

    found = DatasetCard(card).data
    assert (found.license, found.pretty_name) == ("apache-2.0", "Sums <b>of</b> small numbers")
    assert found.size_categories == ["n<1K"]
    assert {c["config_name"] for c in found.configs} == {"trl-prompt-completion", "axolotl-chat"}
    assert "synthetic" in found.tags


def test_it_tells_what_a_stranger_asks(card: str) -> None:
    for line in (
        "| `sample` | 3 | 12 | 0 |",
        "| `right` | `where: verdict = 'correct'` | 5 |",
        "| `unparseable` | 1 |",
        "| `no answer` | 1 |",
        " all right  ██████████████████████████████ 2",
        "| `engine` | `scripted` | `scripted` |",
        "| these rows | `apache-2.0` |",
        "| model `scripted` | not recorded |",
        "completion_only_loss: true",
        "message_field_training: train",
        "            split: 7 rows",
        "  eprint = {2304.06767},",
        "load_dataset('miller/sums', 'trl-prompt-completion', split=",
        "Rows made by the Gristmill recipe sums with scripted.",
        "gristmill trace sums ID",
        "3 requests were sent, 15 tokens in and ",
        "**The rows were not compared with any benchmark.**",
    ):
        assert line in card, line


def test_what_a_model_wrote_is_never_markup(card: str) -> None:
    assert "<script>" in card  # it is shown, in the recipe's replies
    read = outside_of_code(card)
    assert "alert" not in read
    assert "http://b" not in read
    assert "<b>" not in read
    assert set(re.findall(r"<[^>]*>", read)) == {"<details>", "</details>", "<summary>", "</summary>"}


@pytest.mark.parametrize("text", ["a`b", "``", "`", "x``y`z", "", "</b>", "\x1b[31m"])
def test_code_in_a_line_is_closed_by_its_own_ticks(text: str) -> None:
    made = code(text)
    ticks = re.match(r"`+", made)[0]
    assert made.endswith(ticks) and ticks not in made[len(ticks) : -len(ticks)]
    assert "\x1b" not in made


def test_markup_of_text() -> None:
    assert plain("a *b* <i> [c](d) | `e`") == r"a \*b\* &lt;i> \[c\](d) \| \`e\`"
    assert fenced("```\nx\n````") == "`````text\n```\nx\n````\n`````"
    assert table(("a", "b"), [("x", "1,000")]) == "| a | b |\n| --- | ---: |\n| x | 1,000 |"
    assert bars([("a", 1), ("bb", 100), ("c", 0)]).splitlines()[1:4] == [
        " a  █ 1",
        f"bb  {'█' * 30} 100",
        " c  0",
    ]


def test_paths_of_the_machine_stay_at_home(sums: Run, server: HubServer) -> None:
    push(sums, "sums")
    for path, data in server.main("miller/sums").items():
        assert str(sums.path.parent.parent).encode() not in data, path


def test_papers_are_those_of_the_parts_that_are_used() -> None:
    recipe = {"stages": [{"stage": "sample", "confidence": []}, {"stage": "pairs", "rule": "halves"}]}
    assert {paper.arxiv for paper in papers_of(recipe)} == {"2409.11212"}
    shipped = document(Path(__file__).parents[3] / "data" / "recipes" / "quickstart.yaml")
    found = papers_of(shipped)
    assert [paper.arxiv for paper in found] == ["2502.19613"]
    assert found[0].bibtex.startswith("@misc{arxiv_2502_19613,\n")
    assert "year = {2025}" in found[0].bibtex


def test_recall_is_that_of_the_page() -> None:
    kinds = [kind for kind, _, _ in contamination_recall()]
    assert kinds[:4] == ["verbatim", "embedded", "short", "renumbered"]
    assert all(re.fullmatch(r"[01]\.\d{3} \[.*\]", share) for _, _, share in contamination_recall())


def test_croissant_has_the_responsible_fields(sums: Run, server: HubServer) -> None:
    push(sums, "sums")
    files = server.main("miller/sums")
    found = json.loads(files["croissant.json"])
    assert found["rai:machineAnnotationTools"] == ["Gristmill verifier math"]
    assert found["rai:dataCollectionType"] == ["Synthetic"]
    assert any("not decided" in limit for limit in found["rai:dataLimitations"])
    hashes = {f["@id"]: f["sha256"] for f in found["distribution"] if "sha256" in f}
    assert {p for p in hashes if p != "repo"} == {p for p in files if p.startswith("data/")}
    names = {field["name"] for record in found["recordSet"] for field in record["field"]}
    assert {"id", "prompt", "completion", "messages"} == names


@pytest.mark.skipif(VALIDATOR is None, reason="mlcroissant is not installed here")
def test_croissant_is_valid(sums: Run, server: HubServer, tmp_path: Path) -> None:
    push(sums, "sums", stages=["sample", "demonstrations"])
    place = tmp_path / "croissant.json"
    place.write_bytes(server.main("miller/sums")["croissant.json"])
    done = subprocess.run(
        [VALIDATOR, "validate", "--jsonld", str(place)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not standard" not in done.stderr


def test_card_keys_are_checked(sums: Run) -> None:
    from gristmill.core.errors import RecipeError

    with pytest.raises(RecipeError, match=r"card\.license: unknown key\. Did you mean 'licence'"):
        push(sums, "sums", card_keys={"license": "mit"}, dry_run=True)


def test_the_recipe_keeps_its_card(sums: Run) -> None:
    kept = yaml.safe_load((sums.path / "recipe.yaml").read_text())["card"]
    assert kept["authors"] == ["M. Miller"]
