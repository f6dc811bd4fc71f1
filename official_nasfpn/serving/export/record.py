"""The record of an export: what tells it from another one, kept beside the model."""

from collections.abc import Mapping
from pathlib import Path

from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json
from official_nasfpn.serving.checksums import sha256_of
from official_nasfpn.serving.formats import CALIBRATION_IMAGES
from official_nasfpn.training.run_folder import RunFolder

Record = Mapping[str, object]


def export_record(folder: RunFolder, checkpoint: str, **choices: object) -> dict[str, object]:
  """Returns checksums of what an export is made from, and the choices made for it.

  Args:
    folder: the run.
    checkpoint: one of its checkpoints, path prefix.
    **choices: such as the precision.
  """
  return {
    "checkpoint_step": int(checkpoint.rsplit("-", 1)[1]),
    # The index holds a checksum of every tensor, so it stands for the weights.
    "checkpoint_sha256": sha256_of(Path(f"{checkpoint}.index")),
    "config_sha256": sha256_of(folder.config_file),
    "label_map_sha256": sha256_of(folder.label_map_file),
    **choices,
  }


def is_exported(export: Path, record_file: Path, record: Record) -> bool:
  """Returns whether an export is there already.

  Args:
    export: the export that is there.
    record_file: its record.
    record: the record of the export to make.

  Raises:
    UserError: it is an export of another run, of a later checkpoint, or of other choices.
  """
  try:
    stored = parse_json(record_file.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    stored = {}
  if stored.get("precision") == "int8":
    # Before it could be chosen.
    stored.setdefault("calibration_images", CALIBRATION_IMAGES)
  same = {name for name, value in record.items() if stored.get(name) == value}
  if not same >= {"config_sha256", "label_map_sha256"}:
    raise UserError(f"{export} is an export of another run. Give --output_dir a new folder.")
  for name in record.keys() - same:
    if not name.startswith("checkpoint_"):
      raise UserError(
        f"{export} is an export of this run with {name} {stored.get(name)!r} instead of "
        f"{record[name]!r}. Give --output_dir a new folder."
      )
  if stored["checkpoint_step"] > record["checkpoint_step"]:
    raise UserError(
      f"{export} is an export of a later checkpoint, of step {stored['checkpoint_step']} where "
      f"this is step {record['checkpoint_step']}. Give --output_dir a new folder."
    )
  return same == set(record)
