"""Measures our work beside Model Garden's, in turns, and prints a table of the ratios.

    python -m benchmarks.run
    python -m benchmarks.run --only train_step_64 --only input_256 --pairs 3
    python -m benchmarks.run --readme

The first one measures every row of `peer_comparison/rows.py`, which takes two hours on two slow
cores. It may be interrupted: what was measured is in --output, and the same command goes on. Runs
of at least five pairs are added to the history. The last one puts a table into the README: of every
row the last measurement in the history, as far as it was made on the machine of the last run.
"""

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks.peer_comparison import results
from benchmarks.peer_comparison.measuring import REPOSITORY, Settings, Side
from benchmarks.peer_comparison.rows import ROWS, Row
from official_nasfpn.disk import write_text
from official_nasfpn.errors import UserError, nearest_name, refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar, say

# Fewer are a first look.
_PAIRS_THAT_COUNT = 5
_HISTORY = REPOSITORY / "benchmarks" / "history.jsonl"
_README = REPOSITORY / "README.md"
_PLACE = re.compile(r"(<!-- benchmarks -->\n).*?(<!-- end of benchmarks -->)", re.DOTALL)

flags.DEFINE_multi_string("only", [], "Names of the rows to measure; default: all.")
flags.DEFINE_enum("peer", "model_garden", ["model_garden"], "What ours is compared with.")
flags.DEFINE_integer("pairs", 5, "Rounds of each side, taken in turns.", lower_bound=1)
flags.DEFINE_string(
  "output", None, "JSON of this run; default: measured-COMMIT.json in --work_dir."
)
flags.DEFINE_string(
  "work_dir", ".benchmarks", "Data, trained weights and exports, for later runs; logs."
)
flags.DEFINE_string("history", str(_HISTORY), "Runs of at least five pairs are added to it.")
flags.DEFINE_bool("readme", False, "Write the history's last table into README.md, and end.")
flags.DEFINE_integer("cores", 2, "Processors that both sides may use.", lower_bound=1)
flags.DEFINE_integer(
  "train_steps", 800, "Train steps of the weights that both sides are measured with.", lower_bound=1
)
flags.DEFINE_integer("metric_images", 5000, "Images of the row `metrics`.", lower_bound=1)

FLAGS = flags.FLAGS


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if FLAGS.readme:
    text = _README.read_text(encoding="utf-8")
    write_text(_README, with_table(text, results.read_history(Path(FLAGS.history))))
    return
  rows = _chosen_rows(FLAGS.only)
  available = sorted(os.sched_getaffinity(0))
  if len(available) < FLAGS.cores:
    raise UserError(f"--cores={FLAGS.cores}: this process may use {len(available)} only.")
  os.sched_setaffinity(0, available[: FLAGS.cores])

  work_dir = Path(FLAGS.work_dir).resolve()
  work_dir.mkdir(parents=True, exist_ok=True)
  settings = Settings(work_dir, FLAGS.train_steps, FLAGS.metric_images)
  entry = results.new_entry(FLAGS.peer, settings, FLAGS.pairs)
  output = Path(FLAGS.output or work_dir / f"measured-{entry['commit']}.json")
  entry = _begun(output, entry)
  if not FLAGS.only:
    rows = [row for row in rows if row.name not in entry["rows"]]
  try:
    _measure(rows, settings, entry, output)
  except KeyboardInterrupt:
    say("Interrupted. The same command goes on with the next row.")
    sys.exit(1)
  finally:
    print(results.table(entry))
    print(f"\nEverything is in {output}.")
  if FLAGS.pairs >= _PAIRS_THAT_COUNT:
    results.add_to_history(Path(FLAGS.history), entry)
    print(f"Added to {FLAGS.history}; --readme shows it.")


def _chosen_rows(names: Sequence[str]) -> list[Row]:
  by_name = {row.name: row for row in ROWS}
  for name in names:
    if name not in by_name:
      raise UserError(
        f"--only {name}: there is no such row. Did you mean {nearest_name(name, by_name)}? There "
        f"are {', '.join(by_name)}."
      )
  return [row for row in ROWS if not names or row.name in names]


def _begun(output: Path, new: dict[str, Any]) -> dict[str, Any]:
  """Returns the run that a file holds, if it is not complete, or else a new one.

  Raises:
    UserError: its rows were measured elsewhere or with other settings.
  """
  if not output.is_file():
    return new
  begun = json.loads(output.read_text(encoding="utf-8"))
  if begun["rows"].keys() == {row.name for row in ROWS}:
    return new
  for part in ("peer", "machine", "settings", "commit"):
    if begun[part] != new[part]:
      raise UserError(
        f"{output} holds rows of another {part}, {begun[part]} and not {new[part]}. Remove it, or "
        "give --output another file."
      )
  return begun


def _measure(rows: Sequence[Row], settings: Settings, entry: dict[str, Any], output: Path) -> None:
  """Measures rows one after another, and writes the file after each."""
  pairs = {row.name: min(FLAGS.pairs, row.most_pairs or FLAGS.pairs) for row in rows}
  # Preparing the sides takes about as long as one pair.
  total = sum(row.seconds * (pairs[row.name] + 1) for row in rows)
  bar = progress_bar(round(total), "benchmarks", "s")
  bar.bar_format = "{desc}{percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
  with bar:
    for row in rows:
      bar.set_description(row.name)
      for make in row.needs:
        make(settings)
      measured = _measure_row(row, settings, entry["commit"], pairs[row.name], bar)
      say(f"{measured['title']}: {measured['ratio']['median']:.2f}")
      found = {**entry["rows"], row.name: measured}
      entry["rows"] = {each.name: found[each.name] for each in ROWS if each.name in found}
      write_text(output, json.dumps(entry, indent=2) + "\n")


def _measure_row(row: Row, settings: Settings, commit: str, pairs: int, bar) -> dict[str, Any]:
  logs = settings.work_dir / "logs"
  sides, rounds = [], ([], [])
  try:
    for name, prepare in (("ours", row.ours), ("peer", row.peer)):
      sides.append(Side(prepare, settings, logs / f"{row.name}-{name}.txt"))
    bar.update(row.seconds)
    for number in range(pairs):
      # Neither side is always the first one.
      for index in (0, 1) if number % 2 == 0 else (1, 0):
        rounds[index].append(sides[index].measure())
      bar.update(row.seconds)
  finally:
    for side in sides:
      side.close()
  return results.row_entry(row, settings, commit, *rounds)


def with_table(readme: str, history: Sequence[dict[str, Any]]) -> str:
  """Returns the README with the last table of a history in its place."""
  names = [row.name for row in ROWS]
  shown = results.table(results.latest(history, names)) if history else "Not measured yet."
  return _PLACE.sub(lambda found: f"{found[1]}{shown}\n{found[2]}", readme)


if __name__ == "__main__":
  run_program(main)
