"""Plots as SVG, equal for equal numbers: no date, and names that do not depend on chance."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_HASH_SALT = "byok-operator"
_WIDTH = 8.0


@contextmanager
def _figure(path: Path, rows: int) -> Iterator[Axes]:
    with mpl.rc_context({"svg.hashsalt": _HASH_SALT, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, 1.4 + 0.3 * rows), layout="constrained")
        yield figure.subplots()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def bars(path: Path, *, label: str, values: Mapping[str, float], aim: float | None = None) -> None:
    """Draw a bar for each value, the first on top, and the aim as a line."""
    with _figure(path, len(values)) as axes:
        drawn = axes.barh(list(values), list(values.values()), color="#4c72b0")
        axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
        if aim is not None:
            axes.axvline(aim, color="#c44e52", linestyle="--", label=f"aim: {aim:,.0f}")
            axes.legend(loc="lower right")
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(label)


def grouped(path: Path, *, label: str, values: Mapping[str, Mapping[str, float]], logarithmic: bool = False) -> None:
    """Draw for each outer name a group of bars, one for each inner name."""
    names: Sequence[str] = list(next(iter(values.values())))
    height = 0.8 / len(names)
    with _figure(path, len(values) * len(names)) as axes:
        for number, name in enumerate(names):
            places = [group + number * height for group in range(len(values))]
            drawn = axes.barh(places, [inner[name] for inner in values.values()], height, label=name)
            axes.bar_label(drawn, fmt="{:,.0f}", padding=3)
        axes.set_yticks([group + 0.4 - height / 2 for group in range(len(values))], list(values))
        if logarithmic:
            axes.set_xscale("log")
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel(label)
        axes.legend()


def stacked(path: Path, *, label: str, values: Mapping[str, float]) -> None:
    """Draw one bar of all values, end to end."""
    with _figure(path, len(values)) as axes:
        left = 0.0
        colours = mpl.colormaps["tab20"]
        for number, (name, value) in enumerate(values.items()):
            axes.barh([""], [value], left=left, label=f"{name}: {value:,.0f}", color=colours(number))
            left += value
        axes.set_xlabel(label)
        whole = axes.get_figure(root=True)
        if whole is None:
            raise AssertionError("axes are made in a figure")
        whole.legend(loc="outside lower center", ncols=2, fontsize=8)
