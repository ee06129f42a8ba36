"""The reader of expressions, by which the names in alerts and dashboard are judged."""

import pytest

from tests.support.promql import Matcher, Named, named_in


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("up", Named(frozenset({"up"}), (), frozenset())),
        ("sum by (a, b) (rate(x_total[5m])) > 1 / 60", Named(frozenset({"x_total"}), (), frozenset({"a", "b"}))),
        ("time() - max(x) or vector(0)", Named(frozenset({"x"}), (), frozenset())),
        (
            'x{a="1",b=~"2|3"} offset 2h',
            Named(frozenset({"x"}), (Matcher("x", "a", ("1",)), Matcher("x", "b", ("2", "3"))), frozenset()),
        ),
        ("rate(x[$__rate_interval]) * on (k) group_left y # z", Named(frozenset({"x", "y"}), (), frozenset({"k"}))),
    ],
)
def test_an_expression_is_read(expression: str, named: Named) -> None:
    assert named_in(expression) == named


@pytest.mark.parametrize("expression", ["summ(x)", "x ? y", "x;"])
def test_what_cannot_be_read_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="no "):
        named_in(expression)
