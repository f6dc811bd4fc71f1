r"""Compares a detector's anchors with the boxes of your data, before anything is trained.

    nasfpn anchors --gin_file gin/quickstart.gin --gin_file gin/quickstart_photographs.gin \
        --data_dir DATA --figure anchors.png
    nasfpn anchors --model_dir RUN
    nasfpn anchors --search_dir SEARCH

Prints how large boxes are in the network's input, which share of each class anchors reach, what
other anchors and image sizes would reach, and the lines of a recipe that reach most. Takes the
recipes of searches, too. `Detector.anchor_size = 'auto'` chooses the size by itself.
"""

import dataclasses
import json
from pathlib import Path

from absl import flags

from official_nasfpn.configuration import Stored
from official_nasfpn.disk import check_picture_path
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.anchors.report import AnchorReport, report_anchors
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder

_GIN_FILE = flags.DEFINE_multi_string("gin_file", [], "Recipe; may be given several times.")
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "Single binding such as `Detector.anchor_size = 3.0`."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder made by `nasfpn prepare`; sets Input.data_dir."
)
_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Run folder, instead of a recipe.")
_SEARCH_DIR = flags.DEFINE_string("search_dir", None, "Directory of a search, instead of a recipe.")
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "json"], "Tables, or JSON for programs.")
_FIGURE = flags.DEFINE_string(
  "figure", None, "Where to draw the boxes over the anchors, .png, .svg or .pdf."
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if _FIGURE.value:
    check_picture_path("--figure", _FIGURE.value)
  experiment, _ = open_dataset(_read_experiment())
  report = report_anchors(experiment)
  print(_as_json(report) if _FORMAT.value == "json" else report.as_text())
  if _FIGURE.value:
    from official_nasfpn.training.anchors.figure import draw_anchors

    draw_anchors(experiment, _FIGURE.value)
    if _FORMAT.value == "text":
      print(f"\nThe boxes over the anchors: {_FIGURE.value}")


def _read_experiment() -> Experiment:
  sources = (_GIN_FILE.value, _MODEL_DIR.value, _SEARCH_DIR.value)
  if sum(map(bool, sources)) != 1:
    raise UserError(
      "Give a recipe with --gin_file, or --model_dir of a run, or --search_dir of a search."
    )
  gin_files: list[str | Stored] = [*_GIN_FILE.value]
  if _MODEL_DIR.value:
    folder = RunFolder(Path(_MODEL_DIR.value))
    folder.load()  # Refuses what is no run folder.
    gin_files.append(folder.config())
  if _SEARCH_DIR.value:
    from official_nasfpn.search.storage import stored_recipe  # With SQLAlchemy, a second.

    gin_files.append(stored_recipe(Path(_SEARCH_DIR.value)))
  bindings = [*_GIN_PARAM.value]
  if _DATA_DIR.value:
    bindings.append(f"Input.data_dir = {str(Path(_DATA_DIR.value).resolve())!r}")
  # Read as that of a search, so that both kinds of recipes are known.
  return read_recipe(gin_files, bindings).experiment


def _as_json(report: AnchorReport) -> str:
  return json.dumps(
    {
      **dataclasses.asdict(report),
      "reached": report.fit.reached,
      "mean_reached": report.fit.mean_reached,
      "suggested_gin": report.suggested_gin,
    },
    indent=2,
    ensure_ascii=False,
  )


if __name__ == "__main__":
  run_program(main)
