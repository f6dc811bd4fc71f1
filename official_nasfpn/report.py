"""Writes a run or a search as one HTML file: `nasfpn report RUN`, or `nasfpn report SEARCH`.

RUN is a folder of `nasfpn train`, SEARCH one of `nasfpn search`: what is in it tells which. Both
may go on meanwhile. The file needs nothing else, and no network.
"""

import gc
from pathlib import Path

from absl import flags

from official_nasfpn.errors import UserError, run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("search_dir", None, "Of a search; the same as the folder without a flag.")
flags.DEFINE_string("model_dir", None, "Of a run; likewise.")
flags.DEFINE_string("output", None, "File to write. Default: report.html in the folder.")
flags.DEFINE_string(
  "data_dir",
  None,
  "Of a run: the prepared data, where it has moved since. It is read for pictures, and where the "
  "run must be evaluated first.",
)
flags.DEFINE_string(
  "store",
  None,
  "Of a search: the database that the trials are in, if it asks for a password: PGPASSWORD goes to "
  "no other address than this one.",
)
flags.DEFINE_string(
  "proxy_check",
  None,
  "Of a search: folder of a `nasfpn proxy_check` of its recipe, which has measured how far the "
  "rewards of one architecture differ; the report says what that leaves of the differences.",
)
# What shows that a folder is a run, and that it is a search.
_OF_RUN, _OF_SEARCH = "config.gin", "recipe.gin"


def main(argv: list[str]) -> None:
  folder = _folder(argv[1:])
  if _is_run(folder):
    _refuse("a run", "store", "proxy_check")
    from official_nasfpn.training.report.run_report import write_run_report

    print(write_run_report(folder, FLAGS.output, data_dir=FLAGS.data_dir))
  else:
    _refuse("a search", "data_dir")
    from official_nasfpn.search.search import Search

    # Looking for cycles of garbage among a long search's trials takes a sixth of the time; there
    # are none to speak of, and the process ends with the report.
    gc.disable()
    search = Search(folder, store=FLAGS.store)
    print(search.write_report(FLAGS.output, FLAGS.proxy_check))


def _folder(arguments: list[str]) -> Path:
  given = [*arguments, *filter(None, (FLAGS.search_dir, FLAGS.model_dir))]
  if len(given) != 1:
    raise UserError(
      f"Give one folder, of a run or of a search: nasfpn report RUN. There are {len(given)}."
    )
  return Path(given[0])


def _is_run(folder: Path) -> bool:
  """Returns whether a folder holds a run, and not a search; one that was named as either is."""
  if FLAGS.search_dir or FLAGS.model_dir:
    return FLAGS.model_dir is not None
  if (folder / _OF_RUN).is_file():
    return True
  if (folder / _OF_SEARCH).is_file():
    return False
  if not folder.exists():
    raise UserError(f"There is no folder {folder}.")
  inside = sorted(
    path
    for path in (folder.iterdir() if folder.is_dir() else ())
    if (path / _OF_RUN).is_file() or (path / _OF_SEARCH).is_file()
  )
  hint = f" Perhaps you mean {' or '.join(map(str, inside[:3]))}?" if inside else ""
  raise UserError(
    f"{folder} is neither the folder of a run, which has a {_OF_RUN}, nor that of a search, which "
    f"has a {_OF_SEARCH}.{hint}"
  )


def _refuse(what: str, *names: str) -> None:
  for name in names:
    if FLAGS[name].value is not None:
      raise UserError(f"--{name} is of no use for the report of {what}. Leave it out.")


if __name__ == "__main__":
  run_program(main)
