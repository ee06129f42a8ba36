"""How help is laid out: plain text, which a pipe, a screen reader and brackets in a description survive."""

from typing import Any

import typer

# Keeps the paragraph that it begins from being filled (click documentation, "Preventing Rewrapping").
_AS_IS = "\b\n"


def group(**settings: Any) -> typer.Typer:  # noqa: ANN401 - what typer.Typer takes
    """Make an application or a group of commands."""
    return typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def as_is(heading: str, *lines: str) -> str:
    """Lay out lines under a heading, for an epilog, as they are."""
    return _AS_IS + "\n".join([f"{heading}:", *(f"  {line}" for line in lines)])


def examples(*lines: str) -> str:
    """Lay out examples for a command's epilog."""
    return as_is("Examples", *lines)
