"""The advice as bars, drawn by matplotlib without a screen."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from eip.cost import Advice

__all__ = ["draw"]


def draw(advice: Advice, path: Path) -> None:
    """Write bars of the monthly cost, by the file's suffix as SVG or PNG; what does not fit is grey."""
    ways = advice.alternatives[::-1]
    figure = Figure(figsize=(9, 0.35 * len(ways) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    colours = ["tab:green" if each is advice.best else "tab:blue" if each.fits else "lightgrey" for each in ways]
    bars = axes.barh([each.name for each in ways], [each.monthly for each in ways], color=colours)
    axes.bar_label(bars, [f"${each.monthly:,.2f}" for each in ways], padding=3, fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel(f"US dollars a month, logarithmic ({advice.prices})")
    axes.set_title(f"{advice.profile.messages:,.0f} messages of {advice.profile.size:,} bytes a month", fontsize=10)
    axes.margins(x=0.15)
    with mpl.rc_context({"svg.fonttype": "none"}):  # text stays text: smaller, and found by a search
        figure.savefig(path)
