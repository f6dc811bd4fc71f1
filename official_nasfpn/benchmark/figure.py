"""The figure of searches: the reward of the returned architecture over trained architectures."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from official_nasfpn.benchmark.simulated_search import Progress


def draw_rewards(
  axes: Axes, searches: Mapping[str, Sequence[Progress]], emphasized: Collection[str] = ()
) -> None:
  """Draws the true reward of the returned architecture over trained architectures.

  Lines are means over seeds, areas their range.

  Args:
    axes: gets a line for each algorithm.
    searches: by algorithm, one for each seed.
    emphasized: algorithms with a thick line; then only they have areas. None: all have.
  """
  bottoms = []
  for name, of_seeds in searches.items():
    # A search that ended early would return the same from then on.
    length = max(run.num_trained for run in of_seeds)
    returned = np.array(
      [run.returned + run.returned[-1:] * (length - run.num_trained) for run in of_seeds]
    )
    trained = np.arange(1, length + 1)
    mean, low, high = returned.mean(axis=0), returned.min(axis=0), returned.max(axis=0)
    width = 3.0 if name in emphasized else 1.5
    (line,) = axes.plot(trained, mean, label=name, linewidth=width)
    if has_area := name in emphasized or not emphasized:
      axes.fill_between(trained, low, high, color=line.get_color(), alpha=0.1)
    # The axis starts above the first few, whose low rewards would hide the differences later.
    bottoms.append((low if has_area else mean)[length // 20])
  axes.set_ylim(bottom=min(bottoms))
  axes.grid(alpha=0.3)


def ranking_figure(
  searches: Mapping[str, Sequence[Progress]], names: Collection[str], title: str
) -> Figure:
  """Returns the figure of a ranking.

  Args:
    searches: by algorithm, one for each seed.
    names: the algorithms that are ranked, not the baselines.
    title: what the searches have in common.
  """
  figure = Figure(figsize=(8, 5), layout="constrained")
  axes = figure.subplots()
  draw_rewards(axes, searches, names)
  axes.set(title=title, xlabel="trained architectures")
  axes.set_ylabel("true reward of the returned architecture")
  axes.legend(loc="lower right")
  return figure
