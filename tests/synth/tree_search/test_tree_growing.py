from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_adder import right

from gristmill.core.engine import Completion
from gristmill.core.records import Judged
from gristmill.core.schema import from_frame, to_frame
from gristmill.core.steps import Tree
from gristmill.synth.tree_search.grow import Growing, thaw


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.text(max_size=4)), max_size=20))
def test_a_frozen_tree_thaws_to_the_same(additions: list[tuple[int, str]]) -> None:
    growing = Growing("p", "q", None, (), "uct")
    for draw, text in additions:
        live = growing.add(draw % len(growing.nodes), text)
        live.visits, live.value, live.note = draw % 5, draw / 10**6, text
        live.rollouts.append(Judged(Completion(text), right()))
        growing.count([Completion(text, completion_tokens=draw % 7)])
    tree = growing.freeze("why")
    assert thaw(tree).freeze("why") == tree
    assert all(tree.nodes[n.index] is n and n.parent < n.index for n in tree.nodes)
    for node in tree.nodes:
        assert growing.prefix(node.index) == tree.prefix(node.index)
        assert growing.nodes[node.index].depth == len(tree.path(node.index)) - 1
        assert tuple(c.index for c in growing.children(node.index)) == tree.children(node.index)


def test_nodes_do_not_share_what_they_hold() -> None:
    growing = Growing("p", "q", None, (), "uct")
    first, second = growing.add(0, "a"), growing.add(0, "b")
    first.rollouts.append(Judged(Completion("x"), right()))
    growing.add(first.index, "c")
    assert second.rollouts == [] and second.children == []
    assert growing.find(0, "b") is second and growing.find(0, "c") is None


def test_a_tree_survives_its_file() -> None:
    growing = Growing("p", "q", "1", (), "rstar")
    growing.add(0, "step\n\n").rollouts.append(Judged(Completion("1", completion_tokens=3), right()))
    tree = growing.freeze("iterations")
    assert from_frame(to_frame([tree], Tree), Tree) == [tree]
    assert msgspec.json.decode(msgspec.json.encode(tree), type=Tree) == tree
