"""Draws the paper's figures with our models beside the published ones.

    nasfpn figures --figure capacity --runs RUNS --output capacity.png
    nasfpn figures --figure accuracy --runs RUNS --output accuracy.png
    nasfpn figures --figure exits --runs RUNS --output exits.png
    nasfpn figures --figure search --search_dir SEARCH --output search.png

`capacity` is Figure 8, AP over multiply-adds; `accuracy` Figure 9, AP over latency, multiply-adds
and parameters; `exits` AP over latency, one point for each exit of an anytime detector; `search`
Figure 7, the best architecture so far at several times of a search.
"""

import functools
from collections.abc import Callable
from pathlib import Path

from absl import flags

from official_nasfpn.disk import check_picture_path, disk_errors
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_FIGURE = flags.DEFINE_enum(
  "figure", None, ["capacity", "accuracy", "exits", "search"], "Which one.", required=True
)
_RUNS = flags.DEFINE_multi_string(
  "runs", [], "Folder with evaluated runs at or below it; may be given several times."
)
_SEARCH_DIR = flags.DEFINE_string("search_dir", None, "Of a search, for --figure=search.")
_STORE = flags.DEFINE_string(
  "store",
  None,
  "The database that the trials of --search_dir are in, if it asks for a password: PGPASSWORD goes "
  "to no other address than this one.",
)
_LATENCY = flags.DEFINE_bool(
  "latency",
  True,
  "For --figure=accuracy: export a run of every detector and time it on this machine.",
)
_OUTPUT = flags.DEFINE_string("output", None, "Image to write, .png, .svg or .pdf.", required=True)

_MAX_ARCHITECTURES = 5


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  output = Path(_OUTPUT.value)
  check_picture_path("--output", output)
  draw = _figure_of_search() if _FIGURE.value == "search" else _figure_of_models()
  with disk_errors(output, "Choose another --output."):
    draw(output)
  print(output)


def _figure_of_models() -> Callable[[Path], None]:
  """Measures what is to be drawn; returns what draws it into a file."""
  from official_nasfpn.paper import figures, measured

  if not _RUNS.value:
    raise UserError(f"--figure={_FIGURE.value} needs --runs, a folder with evaluated runs.")
  groups = measured.group_runs(measured.find_runs(map(Path, _RUNS.value)))
  with_latency = {"capacity": False, "accuracy": _LATENCY.value, "exits": True}[_FIGURE.value]
  with progress_bar(len(groups), "measure", "detector") as bar:
    models = measured.read_models(groups, with_latency, bar.update)
  draw = {
    "capacity": figures.draw_capacity,
    "accuracy": figures.draw_accuracy,
    "exits": figures.draw_exits,
  }[_FIGURE.value]
  return functools.partial(draw, models)


def _figure_of_search() -> Callable[[Path], None]:
  """Reads what is to be drawn; returns what draws it into a file."""
  from official_nasfpn import architecture
  from official_nasfpn.paper import figures
  from official_nasfpn.search.report.found import read_trials
  from official_nasfpn.search.report.results import bests_so_far, spread

  if not _SEARCH_DIR.value:
    raise UserError("--figure=search needs --search_dir.")
  bests = bests_so_far(read_trials(Path(_SEARCH_DIR.value), _STORE.value))
  if not bests:
    raise UserError(f"No trial in {_SEARCH_DIR.value} has a reward yet.")
  architectures = [
    (f"trial {trial.number}, reward {trial.reward:.4f}", architecture.from_gin(trial.architecture))
    for trial in spread(bests, _MAX_ARCHITECTURES)
  ]
  return functools.partial(figures.draw_search, architectures)


if __name__ == "__main__":
  run_program(main)
