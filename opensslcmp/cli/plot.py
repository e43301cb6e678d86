"""Small charts as SVG: lines over time or percentiles, and bars of several parts. Nothing but text, and no library.

>>> panel = Panel(title="Rate", series=[Series(name="done", points=[(0, 10), (1, 12)])])
>>> draw("Two seconds", [panel]).startswith("<svg ")
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Bar", "Bars", "Panel", "Series", "draw", "percentile_place"]

_WIDTH, _PANEL, _TITLE = 860, 280, 40
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 150, 34, 46
# Colours that people who see few colours tell apart (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999", "#f0e442", "#000000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One line: its points from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Lines over one pair of axes.

    Attributes:
        ticks: places of the x axis and what stands there; None: round numbers.
        log: the y axis is logarithmic; what is not above 0 is left out.
    """

    title: str
    series: Sequence[Series]
    x_label: str = ""
    y_label: str = ""
    ticks: Sequence[tuple[float, str]] | None = None
    log: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One bar: what its parts are worth, in the order of ``Bars.parts``."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """Bars that lie, each of several parts."""

    title: str
    parts: Sequence[str]
    bars: Sequence[Bar] = field(default_factory=tuple)
    x_label: str = ""


def percentile_place(percent: float) -> float:
    """Where a percentile lies on an axis that gives each further nine the same room: 90 at 1, 99 at 2, 99.9 at 3.

    >>> round(percentile_place(99.9), 9)
    3.0
    """
    return -math.log10(1 - min(percent, 99.9999) / 100)


def draw(title: str, panels: Sequence[Panel | Bars]) -> str:
    """An SVG document with one panel under the other."""
    heights = [_PANEL if isinstance(panel, Panel) else _TOP + _BOTTOM + 30 * len(panel.bars) for panel in panels]
    height = _TITLE + sum(heights)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(_LEFT, 26, title, size=16),
    ]
    top = _TITLE
    for panel, each in zip(panels, heights, strict=True):
        lines += _lines(panel, top) if isinstance(panel, Panel) else _bars(panel, top)
        top += each
    return "\n".join([*lines, "</svg>", ""])


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, turn: bool = False) -> str:
    turned = f' transform="rotate(-90 {x:g} {y:g})"' if turn else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"{turned}>{escape(text)}</text>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str = "#dddddd") -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}"/>'


def _round_steps(most: float, least: float = 0.0, wanted: int = 5) -> list[float]:
    """Round numbers from ``least`` to ``most``, about so many."""
    span = most - least
    if span <= 0:
        return [least]
    rough = span / wanted
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    first = math.ceil(least / step)
    return [number * step for number in range(first, math.floor(most / step + 1e-9) + 1)]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:.3g}" if value < 1000 else f"{value:g}"


def _lines(panel: Panel, top: float) -> list[str]:
    series = [
        Series(name=each.name, points=[(x, y) for x, y in each.points if not panel.log or y > 0])
        for each in panel.series
    ]
    points = [point for each in series for point in each.points] or [(0.0, 1.0)]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    high_x = high_x if high_x > low_x else low_x + 1
    left, right, upper, lower = _LEFT, _WIDTH - _RIGHT, top + _TOP, top + _PANEL - _BOTTOM
    if panel.log:
        low_y = math.floor(math.log10(min(y for _, y in points)))
        high_y = max(math.ceil(math.log10(max(y for _, y in points))), low_y + 1)
        marks = [10.0**power for power in range(low_y, high_y + 1)]
    else:
        most = max(y for _, y in points) or 1.0
        low_y, high_y = 0, most * 1.05  # type: ignore[assignment]
        marks = _round_steps(most)

    def place_x(x: float) -> float:
        return round(left + (x - low_x) / (high_x - low_x) * (right - left), 1)

    def place_y(y: float) -> float:
        height = math.log10(y) if panel.log else y
        return round(lower - (height - low_y) / (high_y - low_y) * (lower - upper), 1)

    drawn = [_text(left, top + 20, panel.title, size=13)]
    for mark in marks:
        drawn += [
            _rule(left, place_y(mark), right, place_y(mark)),
            _text(left - 6, place_y(mark) + 4, _short(mark), anchor="end"),
        ]
    ticks = panel.ticks if panel.ticks is not None else [(x, _short(x)) for x in _round_steps(high_x, low_x, 8)]
    for x, name in ticks:
        if low_x <= x <= high_x:
            drawn += [_rule(place_x(x), upper, place_x(x), lower), _text(place_x(x), lower + 16, name, anchor="middle")]
    drawn += [_rule(left, lower, right, lower, "#666666"), _rule(left, upper, left, lower, "#666666")]
    drawn.append(_text((left + right) / 2, lower + 34, panel.x_label, anchor="middle"))
    drawn.append(_text(left - 58, (upper + lower) / 2, panel.y_label, anchor="middle", turn=True))
    for number, each in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{place_x(x):g},{place_y(y):g}" for x, y in each.points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(each.points) < 40:
            drawn += [
                f'<circle cx="{place_x(x):g}" cy="{place_y(y):g}" r="2.5" fill="{colour}"/>' for x, y in each.points
            ]
        drawn += _key(number, each.name, upper)
    return drawn


def _key(number: int, name: str, upper: float) -> list[str]:
    """A line of the legend, on the right."""
    y = upper + 8 + 18 * number
    colour = _COLOURS[number % len(_COLOURS)]
    return [
        f'<rect x="{_WIDTH - _RIGHT + 12}" y="{y - 8:g}" width="10" height="10" fill="{colour}"/>',
        _text(_WIDTH - _RIGHT + 27, y + 1, name),
    ]


def _bars(chart: Bars, top: float) -> list[str]:
    left, right, upper = _LEFT + 100, _WIDTH - _RIGHT, top + _TOP
    lower = upper + 30 * len(chart.bars)
    most = max((sum(bar.values) for bar in chart.bars), default=1.0) or 1.0
    scale = (right - left) / (most * 1.05)
    drawn = [_text(_LEFT, top + 20, chart.title, size=13)]
    for mark in _round_steps(most):
        x = round(left + mark * scale, 1)
        drawn += [_rule(x, upper, x, lower), _text(x, lower + 16, _short(mark), anchor="middle")]
    drawn.append(_text((left + right) / 2, lower + 34, chart.x_label, anchor="middle"))
    for row, bar in enumerate(chart.bars):
        y, x = upper + 30 * row + 5, float(left)
        drawn.append(_text(left - 6, y + 14, bar.name, anchor="end"))
        for number, value in enumerate(bar.values):
            width = max(value, 0) * scale
            drawn.append(
                f'<rect x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="20" fill="{_COLOURS[number % len(_COLOURS)]}">'
                f"<title>{escape(chart.parts[number])}: {value:.4g}</title></rect>"
            )
            x += width
    for number, part in enumerate(chart.parts):
        drawn += _key(number, part, upper)
    return drawn
