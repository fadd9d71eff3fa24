"""A picture of a run's loss, from its log."""

import os
from pathlib import Path

import numpy as np

from ported.training import log
from ported.training.errors import disk_failure

INK, SOFT, MARK = "#1f3a5f", "#9db4cf", "#c8553d"


def smoothed(values: np.ndarray, share: float = 0.03) -> np.ndarray:
    """Mean of each value and its neighbours, `share` of all values to both sides alike: fewer near
    the ends, so that the curve neither lags nor bends there."""
    place = np.arange(len(values))
    reach = np.minimum(int(len(values) * share), np.minimum(place, place[::-1]))
    total = np.cumsum(np.concatenate([[0.0], values]))
    return (total[place + reach + 1] - total[place - reach]) / (2 * reach + 1)


def draw(run: Path) -> Path | None:
    """Writes run/curve.png from run/log.jsonl; None where there is no step yet.

    Training loss as it is and smoothed, validation losses as points, in nats over steps.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = log.read(run / "log.jsonl")
    train = np.array([(r["step"], r["loss"]) for r in records if "loss" in r])
    val = np.array([(r["step"], r["val_loss"]) for r in records if "val_loss" in r])
    if not len(train):
        return None
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*train.T, color=SOFT, linewidth=0.8, label="training, each step")
    axes.plot(train[:, 0], smoothed(train[:, 1]), color=INK, linewidth=1.8, label="smoothed")
    if len(val):
        axes.plot(*val.T, "o-", color=MARK, linewidth=1, markersize=4.5,
                  label=f"validation, last {val[-1, 1]:.3f}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a token)")
    axes.set_title(run.name, loc="left", fontsize=11, color=INK)
    axes.grid(color="#e4e8ee", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.legend(frameon=False)
    path = run / "curve.png"
    try:
        FigureCanvasAgg(figure).print_png(run / ".curve.png")
        os.replace(run / ".curve.png", path)
    except OSError as error:
        raise disk_failure(path, error, "make room; the run itself is saved") from error
    return path
