"""What a comparison shows: a table of some steps, and a picture of all of them."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from checks.compare_band import FACTOR, FAMILIES, Band, Judged

INK, SOFT, MARK = "#1f3a5f", "#c9d6e6", "#c8553d"


def shown(steps: int) -> list[int]:
    """1, 2, 5, 10, 20, 50, ... and the last."""
    found = [k * 10**e for e in range(9) for k in (1, 2, 5) if k * 10**e < steps]
    return [*found, steps]


def table(judged: Iterable[Judged], losses: list[float], steps: list[int]) -> str:
    """One line a step and candidate: error over bound of each family's worst measure."""
    lines = [f"{'step':>5}  {'loss':>8}  {'run':<8}" + "".join(f"{f:>26}" for f in FAMILIES[:2])
             + f"{'worst parameter':>20}{'worst m':>10}{'worst v':>10}",
             f"{'':>5}  {'float64':>8}  {'':<8}" + f"{'error (its bound)':>26}" * 2
             + f"{'error over bound':>20}" + f"{'':>20}"]
    by_step: dict[tuple[int, str], dict[str, Judged]] = {}
    for one in judged:
        if one.point.step in steps:
            worst = by_step.setdefault((one.point.step, one.candidate), {})
            known = worst.get(one.point.family)
            if known is None or not one.ratio <= known.ratio:
                worst[one.point.family] = one
    for (step, candidate), worst in by_step.items():
        line = f"{step:>5}  {losses[step - 1]:>8.4f}  {candidate:<8}"
        for family in FAMILIES[:2]:
            line += f"{f'{worst[family].error:.2e} ({worst[family].bound:.2e})':>26}"
        for family, width in zip(FAMILIES[2:5], (20, 10, 10), strict=True):
            line += f"{worst[family].ratio:>{width}.3f}" if family in worst else " " * width
        lines.append(line)
    return "\n".join(lines)


def verdict(judged: list[Judged], band: Band, strays: list[str]) -> str:
    """The worst of each family, every family that leaves its band first, and what the band is."""
    chance = band.chances()
    lines = []
    for family in FAMILIES:
        ours = [one for one in judged if one.point.family == family]
        if not ours:
            continue
        worst = max(ours, key=lambda one: one.ratio if one.ratio == one.ratio else np.inf)
        outside = [one for one in ours if not one.within]
        line = (f"{family:<11} worst {worst.ratio:.3f} of its bound (step {worst.point.step}"
                + (f", {worst.point.name}" if worst.point.name != family else "") + ")")
        if outside:
            first = outside[0]
            line += (f"; LEFT THE BAND first at step {first.point.step}, {first.candidate}"
                     f" {first.point.name}: found {first.error:.3g}, expected at most "
                     f"{first.bound:.3g}; {len(outside)} of {len(ours)} outside")
        lines.append(line)
    factors = ", ".join(f"{f} {FACTOR * chance[f]:.1f}" for f in FAMILIES)
    lines.append(f"the band: the most that {len(strays)} runs of stock PyTorch strayed from "
                 f"float64 ({'; '.join(strays)}), times {factors}")
    return "\n".join(lines)


def draw(path: Path, judged: list[Judged], losses: list[float], title: str) -> Path:
    """Loss over steps, and below it errors of loss and norm inside their bands. Writes a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7.5), layout="constrained")
    top, *below = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1.3, 1.3))
    top.plot(np.arange(1, len(losses) + 1), losses, color=INK, label="stock PyTorch, float64")
    top.set_ylabel("loss (nats a token)")
    top.set_title(title, loc="left", fontsize=11, color=INK)
    for axes, family in zip(below, ("loss", "norm"), strict=True):
        ours = [one for one in judged if one.point.family == family]
        names = list(dict.fromkeys(one.candidate for one in ours))
        for name, colour in zip(names, (MARK, INK), strict=False):
            mine = [one for one in ours if one.candidate == name]
            steps = [one.point.step for one in mine]
            if name == names[0]:
                axes.fill_between(steps, 1e-10, [one.bound for one in mine], color=SOFT,
                                  label="band: stock PyTorch's own runs")
            axes.plot(steps, np.maximum([one.error for one in mine], 1e-10), color=colour,
                      linewidth=1, label=name)
        axes.set_yscale("log")
        axes.set_ylabel(f"relative error, {family}")
        axes.legend(loc="lower right", fontsize=9, edgecolor="none", framealpha=0.9)
    below[-1].set_xlabel("step")
    for axes in (top, *below):
        axes.grid(color="#e4e8ee", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.01)
    FigureCanvasAgg(figure).print_png(path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)
    return path
