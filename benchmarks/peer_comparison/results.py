"""What was measured: machine, rows with their spread, the history of runs, and the table."""

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peer_comparison.measuring import REPOSITORY, Round, Settings
from benchmarks.peer_comparison.rows import Row
from official_nasfpn.disk import write_text

_VERSIONS = ("tensorflow", "tf_keras", "tf-models-official", "pycocotools", "faster-coco-eval")
_OF_A_UNIT = {"s": 1.0, "ms": 1e-3, "MB": 1e6}
# Instructions that decide how fast TensorFlow computes.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")


def describe_machine() -> dict[str, Any]:
  """Returns what figures depend on: processor, cores, memory, versions, options of TensorFlow."""
  lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  fields = dict(line.split(":", 1) for line in lines if ":" in line)
  named = {key.strip(): value.strip() for key, value in fields.items()}
  flags = named.get("flags", "").split()
  return {
    "processor": named.get("model name", platform.machine()),
    "instructions": [name for name in _INSTRUCTIONS if name in flags],
    "cores": len(os.sched_getaffinity(0)),
    "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
    "environment": {
      name: value
      for name, value in sorted(os.environ.items())
      if name in ("OMP_NUM_THREADS", "XLA_FLAGS", "TF_ENABLE_ONEDNN_OPTS")
      or name.startswith("TF_NUM_")
    },
  }


def new_entry(peer: str, settings: Settings, pairs: int) -> dict[str, Any]:
  """Returns what a run writes, without rows."""
  return {
    "peer": peer,
    "commit": _commit(),
    "machine": describe_machine(),
    "settings": {
      "pairs": pairs,
      "train_steps": settings.train_steps,
      "metric_images": settings.metric_images,
    },
    "rows": {},
  }


def row_entry(
  row: Row, settings: Settings, commit: str, ours: Sequence[Round], peer: Sequence[Round]
) -> dict[str, Any]:
  """Returns a row of a run, with values in its unit.

  Args:
    row: what was measured.
    settings: of the run.
    commit: what was measured of ours.
    ours: our rounds.
    peer: the peer's, each taken beside ours of the same position.
  """
  unit = _OF_A_UNIT[row.unit]
  ratios = [mine.value / theirs.value for mine, theirs in zip(ours, peer, strict=True)]
  return {
    "title": row.title.format(**vars(settings)),
    "commit": commit,
    "unit": row.unit,
    "at_most": row.at_most,
    "ours": _spread([each.value / unit for each in ours]) | {"also": _medians(ours)},
    "peer": _spread([each.value / unit for each in peer]) | {"also": _medians(peer)},
    "ratio": _spread(ratios),
  }


def _spread(values: Sequence[float]) -> dict[str, Any]:
  quartiles = statistics.quantiles(values, n=4, method="inclusive") if values[1:] else values * 3
  return {
    "median": statistics.median(values),
    "min": min(values),
    "quartiles": [quartiles[0], quartiles[2]],
    "values": list(values),
  }


def _medians(rounds: Sequence[Round]) -> Mapping[str, float]:
  return {name: statistics.median(each.also[name] for each in rounds) for name in rounds[0].also}


def read_history(file: Path) -> list[dict[str, Any]]:
  """Returns the runs of a history, the oldest first; none if there is no file."""
  if not file.is_file():
    return []
  return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def add_to_history(file: Path, entry: Mapping[str, Any]) -> None:
  """Adds a run to a history, a line of JSON for each run."""
  lines = [json.dumps(each) + "\n" for each in (*read_history(file), entry)]
  write_text(file, "".join(lines))


def latest(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
  """Returns the last run, with rows that only earlier ones on the same machine have measured.

  Args:
    history: runs, the oldest first; at least one.
    names: of the rows that there are today, in their order.
  """
  last = history[-1]
  rows: dict[str, Any] = {}
  for entry in history:
    if all(entry[part] == last[part] for part in ("peer", "machine", "settings")):
      rows |= entry["rows"]
  return {**last, "rows": {name: rows[name] for name in names if name in rows}}


def table(entry: Mapping[str, Any]) -> str:
  """Returns the Markdown table of a run, and the machine in words."""
  machine = entry["machine"]
  versions = machine["versions"]
  instructions = f", {', '.join(machine['instructions'])}" if machine["instructions"] else ""
  lines = [
    "| work | ours | Model Garden | ratio | middle half | at most |",
    "|---|---|---|---|---|---|",
    *(_line(row) for row in entry["rows"].values()),
    "",
    f"{machine['processor']}{instructions}, {machine['cores']} cores, {machine['memory_gb']} GB; "
    f"TensorFlow {versions['tensorflow']}, Model Garden {versions['tf-models-official']}. "
    f"Medians of {entry['settings']['pairs']} pairs taken in turns, the ratio that of the pairs; "
    f"weights trained for {entry['settings']['train_steps']} steps where they matter. Measured at "
    f"{', '.join(dict.fromkeys(row['commit'] for row in entry['rows'].values()))}.",
  ]
  return "\n".join([*lines, *(_notes(entry["rows"]))])


def _line(row: Mapping[str, Any]) -> str:
  ratio = row["ratio"]
  low, high = ratio["quartiles"]
  at_most = "" if row["at_most"] is None else f"{row['at_most']:g}"
  title = row["title"] + (" (1 pair)" if len(ratio["values"]) == 1 else "")
  return (
    f"| {title} | {_figure(row['ours'], row['unit'])} | {_figure(row['peer'], row['unit'])} "
    f"| {ratio['median']:.2f} | {low:.2f} to {high:.2f} | {at_most} |"
  )


def _figure(side: Mapping[str, Any], unit: str) -> str:
  return (
    f"{side['median']:,.3g} {unit}" if side["median"] < 1000 else f"{side['median']:,.0f} {unit}"
  )


def _notes(rows: Mapping[str, Any]) -> list[str]:
  notes = []
  if row := rows.get("train_step_256"):
    share = row["ours"]["also"]["share of the machine"]
    notes.append(
      f"Our train step @ 256 does {share:.0%} of the operations a second that a product of two "
      "matrices of 2,048 x 2,048 does here."
    )
  if row := rows.get("evaluation"):
    ours, peer = row["ours"]["also"], row["peer"]["also"]
    notes.append(f"AP50 of the weights: {ours['AP50']:.3f} and {peer['AP50']:.3f}.")
  return notes


def _commit() -> str:
  """Returns the name of the commit, `-dirty` if files have changed since; "unknown" without git."""
  command = ["git", "describe", "--always", "--dirty"]
  try:
    return subprocess.run(
      command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return "unknown"
