"""Namespaces selected by their labels, as Kubernetes' own label selectors do."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from byok_api.fields import Effect, Mark, Model, Rule
from byok_api.metadata import LabelKey, LabelValue

_ENFORCED = Mark(Effect.ENFORCED)


class SelectorOperator(StrEnum):
    """How an expression compares (metav1.LabelSelectorRequirement)."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


_OVER_VALUES = (SelectorOperator.IN, SelectorOperator.NOT_IN)


class SelectorExpression(Model):
    """One demand on a namespace's labels."""

    key: Annotated[LabelKey, _ENFORCED, Field(description="Label key.")]
    operator: Annotated[SelectorOperator, _ENFORCED, Field(description="How the label's value is compared.")]
    values: Annotated[
        tuple[LabelValue, ...] | None,
        _ENFORCED,
        Field(max_length=32, description="Values for In and NotIn; none for Exists and DoesNotExist."),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="ValuesFitOperator",
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            message="values must be given for In and NotIn, and only for them",
            check=lambda expression: (expression.operator in _OVER_VALUES) == bool(expression.values),
        ),
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether labels meet this demand; as in Kubernetes, NotIn also holds for an absent label."""
        match self.operator:
            case SelectorOperator.IN:
                return labels.get(self.key) in (self.values or ())
            case SelectorOperator.NOT_IN:
                return labels.get(self.key) not in (self.values or ())
            case SelectorOperator.EXISTS:
                return self.key in labels
            case SelectorOperator.DOES_NOT_EXIST:
                return self.key not in labels


class NamespaceSelector(Model):
    """Namespaces by their labels (metav1.LabelSelector); all that is given must hold."""

    match_labels: Annotated[
        dict[str, LabelValue] | None,
        _ENFORCED,
        Field(max_length=16, description="Labels with the values that they must have."),
    ] = None
    match_expressions: Annotated[
        tuple[SelectorExpression, ...] | None,
        Field(max_length=16, description="Further demands on labels."),
    ] = None

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            name="SelectorNotEmpty",
            cel=(
                "(has(self.matchLabels) && size(self.matchLabels) > 0)"
                " || (has(self.matchExpressions) && size(self.matchExpressions) > 0)"
            ),
            message=(
                "an empty selector would admit every namespace; to mean that, write matchExpressions "
                "[{key: kubernetes.io/metadata.name, operator: Exists}]"
            ),
            check=lambda selector: bool(selector.match_labels or selector.match_expressions),
        ),
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Say whether a namespace with these labels is selected."""
        wanted = (self.match_labels or {}).items()
        return all(labels.get(key) == value for key, value in wanted) and all(
            expression.matches(labels) for expression in self.match_expressions or ()
        )
