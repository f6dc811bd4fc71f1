"""The command `nasfpn`: a sub-command for each of the project's programs.

`nasfpn search ...` is `python -m official_nasfpn.search ...`, from any folder.
"""

import importlib
import os
import sys
from dataclasses import dataclass

from official_nasfpn import __version__


@dataclass(frozen=True)
class Program:
  """One sub-command.

  Attributes:
    name: what users type.
    summary: one line for the list of commands.
    module: the module to run, relative to the package.
    other_names: other spellings that are accepted.
  """

  name: str
  summary: str
  module: str
  other_names: tuple[str, ...] = ()


# In the order of use.
PROGRAMS = (
  Program("quickstart", "all of the steps below on drawn images or on yours", "quickstart"),
  Program(
    "prepare", "annotations and images to the data of a training", "prepare_data", ("prepare_data",)
  ),
  Program("anchors", "what of your data a detector's anchors reach, and better ones", "anchors"),
  Program("search", "search a feature pyramid for your data", "search.__main__"),
  Program("worker", "evaluate trials of a search, on any machine", "worker"),
  Program("report", "a run or a search as one HTML file", "report"),
  Program(
    "proxy_check",
    "whether a search's short trainings tell good pyramids from bad ones",
    "proxy_check",
    ("proxy-check",),
  ),
  Program(
    "benchmark", "your search algorithm, ranked on recorded architectures", "benchmark.__main__"
  ),
  Program("train", "train and evaluate a detector", "train"),
  Program("export", "a trained detector as SavedModel, ONNX or TensorFlow Lite", "export"),
  Program("detect", "find objects in images and videos", "detect"),
  Program("serve", "answer requests over REST on this machine", "serve"),
  Program("describe", "what a detector costs, and a drawing of its pyramid", "describe"),
  Program("weights", "where weights of backbones can be had, and their checksums", "weights"),
  Program("figures", "the paper's figures with your runs in them", "figures"),
  Program("recipes", "the recipes that come with this package", "recipes"),
  Program("settings", "every setting that a recipe may bind", "settings_list", ("settings_list",)),
)


def main() -> None:
  """Runs the sub-command that the command line names."""
  name, *arguments = sys.argv[1:] or ["--help"]
  if name in ("--help", "-h", "-help", "help"):
    print(_overview())
  elif name == "--version":
    print(f"nasfpn {__version__}")
  else:
    _run(_program(name), arguments)


def _overview() -> str:
  width = max(len(program.name) for program in PROGRAMS)
  return "\n".join(
    [
      "Search, train, measure, export and serve NAS-FPN detectors.",
      "",
      *(f"  nasfpn {program.name:{width}}  {program.summary}" for program in PROGRAMS),
      "",
      "`nasfpn search --help` lists the options of a command, `nasfpn --version` the version.",
    ]
  )


def _program(name: str) -> Program:
  known = {other: program for program in PROGRAMS for other in (program.name, *program.other_names)}
  if name not in known:
    from official_nasfpn.errors import nearest_name

    nearest = nearest_name(name, known)
    sys.exit(
      f"error: There is no command {name!r}. Did you mean nasfpn {nearest}? `nasfpn --help` lists "
      "all."
    )
  return known[name]


def _run(program: Program, arguments: list[str]) -> None:
  # Imported here, so that the list of commands is shown at once.
  from absl import flags

  from official_nasfpn.errors import exit_with, run_program
  from official_nasfpn.installation import missing_dependency

  try:
    module = importlib.import_module(f"official_nasfpn.{program.module}")
  except ModuleNotFoundError as error:
    if missing := missing_dependency(error):
      exit_with(missing)
    raise
  _keep_current_folder_out()
  # absl takes the help text from the main module, and its flags from that of this name.
  sys.argv = [f"nasfpn {program.name}", *arguments]
  sys.modules["__main__"].__doc__ = module.__doc__
  for flag in flags.FLAGS.get_flags_for_module(module):
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
  run_program(module.main)


def _keep_current_folder_out() -> None:
  """Keeps Python programs that this one starts from importing modules of the current folder.

  A file `queue.py` there must not be taken for the standard library's. In a checkout that is not
  installed the package itself is in the current folder.
  """
  if os.getcwd() not in map(os.path.abspath, sys.path):
    os.environ["PYTHONSAFEPATH"] = "1"
