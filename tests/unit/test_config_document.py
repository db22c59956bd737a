"""The tree of a YAML text: the same from libyaml and from PyYAML's own parser."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.config import document
from siger_gateway.config.document import Node, parse
from siger_gateway.config.problem import Report

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
)


def by_both(text: str) -> tuple[Node | None, Node | None]:
    trees = []
    for libyaml in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml, "__with_libyaml__", libyaml)
            trees.append(parse(text, Report("c.yaml")))
    return trees[0], trees[1]


def test_libyaml_is_used_where_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert yaml.__with_libyaml__, "the wheels of PyYAML have it"
    monkeypatch.delattr(document, "_Loader")
    assert parse("a: [1, 2]", Report("c.yaml")) is not None


@given(TREES, st.booleans(), st.sampled_from([None, "'", '"', "|", ">"]))
@settings(deadline=None)
def test_whatever_yaml_writes_is_read_as_the_same_tree(
    tree: object, flow: bool, style: str | None
) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, default_style=style, allow_unicode=True)
    one, other = by_both(text)
    assert one == other
    assert one is not None


@pytest.mark.parametrize(
    "text",
    [
        "# only a comment",
        "a: {b: [1, x, 'q', \"\\u00e9\"]}\nc: |\n  foo\n\nd: >-\n  folded\n  lines\n",
        "base: &b {x: 1}\nuse:\n  <<: *b\n  y: 2\nlist: [*b, *b]\n",
        "%YAML 1.1\n---\na: !!str 1\n...\n",
        "? a\n: b\n",
        "täglich: 'ü'   # as a\tcomment\n",
    ],
)
def test_a_text_is_the_same_tree_to_both(text: str) -> None:
    one, other = by_both(text)
    assert one == other


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\tx: 1", "a: \x01", "[" * 70 + "]" * 70])
def test_what_is_wrong_is_said_in_the_same_words(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for libyaml in (True, False):
        monkeypatch.setattr(yaml, "__with_libyaml__", libyaml)
        report = Report("c.yaml")
        assert parse(text, report) is None
        with pytest.raises(Exception, match=r"c\.yaml") as raised:
            report.raise_if_any()
        found.append(str(raised.value))
    assert found[0] == found[1]
