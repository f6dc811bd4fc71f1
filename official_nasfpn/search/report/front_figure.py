"""The figure of a search with several objectives: its front, and the hypervolume over trials."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from official_nasfpn.search.objectives import AP
from official_nasfpn.search.report.trade_offs import TradeOffs, size_names, value_of


def draw_front(found: TradeOffs, path: Path, title: str | None = None) -> None:
  """Draws AP over each cost, with the front marked, and the hypervolume over trials.

  Args:
    found: of the search; with at least one trial.
    path: of the image; its ending says which format.
    title: of the figure.
  """
  figure = Figure(figsize=(5.5 * (len(found.costs) + 1), 4.2), layout="constrained")
  *cost_axes, volume_axes = figure.subplots(1, len(found.costs) + 1)
  if title:
    figure.suptitle(title)
  for axes, cost in zip(cost_axes, found.costs, strict=True):
    for trials, style in ((found.trials, {"color": "0.6"}), (found.on_front, {"color": "C1"})):
      values = [value_of(trial, cost) / cost.scale for trial in trials]
      aps = [value_of(trial, AP) for trial in trials]
      if trials is found.on_front:
        axes.plot(values, aps, "o", label="front", **style)
        # The dearest of a size is its best on a front of one cost; above it there is nothing.
        best = dict(zip(size_names(found.on_front), zip(values, aps, strict=True), strict=False))
        for size, place in best.items():
          axes.annotate(size, place, (1, 7), textcoords="offset points", fontsize=7, rotation=60)
        # With more than one cost the front is no line.
        if len(found.costs) == 1:
          axes.step(values, aps, where="post", **style)
      else:
        axes.plot(values, aps, ".", label="trial", **style)
    axes.set_xlabel(cost.axis)
    axes.set_ylabel("AP of the proxy")
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
  volume_axes.step([trial.number for trial in found.trials], found.volumes, where="post")
  volume_axes.set_xlabel("trial")
  volume_axes.set_ylabel("hypervolume of the trials so far")
  volume_axes.set_ylim(bottom=0)
  volume_axes.xaxis.set_major_locator(MaxNLocator(integer=True))
  for axes in (*cost_axes, volume_axes):
    axes.grid(alpha=0.3)
  figure.savefig(path, dpi=120)
