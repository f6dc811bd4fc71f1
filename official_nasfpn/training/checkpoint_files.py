"""The checkpoints in a folder, as their files say.

TensorFlow's own `latest_checkpoint` believes a file of names, `checkpoint`, also where the files
that it names were deleted, and takes the folder's path for a pattern.
"""

import re
from pathlib import Path

from official_nasfpn.errors import UserError

# TensorFlow finds no checkpoint below `[1]` or a backslash, and where old checkpoints are deleted,
# `run*` would be all runs.
_PATTERN = "*?[\\"
_INDEX = re.compile(r"(ckpt-(\d+))\.index")


def checkpoints_in(folder: Path) -> list[str]:
  """Returns the path prefixes of all checkpoints of a folder, which need not exist, oldest first.

  The index of a checkpoint is written last, so where it lies the checkpoint is whole.
  """
  found = [_INDEX.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
  in_order = sorted((int(match[2]), match[1]) for match in found if match)
  return [str(folder / name) for _, name in in_order]


def newest_checkpoint(folder: Path) -> str | None:
  """Returns the path prefix of the newest checkpoint of a folder; None if there is none."""
  return next(reversed(checkpoints_in(folder)), None)


def step_of(checkpoint: str) -> int:
  """Returns the train step of a checkpoint, from its path prefix `.../ckpt-STEP`."""
  return int(checkpoint.rsplit("-", 1)[1])


def files_of(checkpoint: str) -> list[Path]:
  """Returns the files of a checkpoint, the index first: without it the others are none."""
  path = Path(checkpoint)
  files = [file for file in path.parent.iterdir() if file.name.startswith(f"{path.name}.")]
  return sorted(files, key=lambda file: file.suffix != ".index")


def refuse_pattern(path: str | Path, where: str) -> None:
  """Refuses a path below which checkpoints cannot be kept, since TensorFlow takes it for a pattern.

  Args:
    path: of a folder or a checkpoint.
    where: what names it, as in "--model_dir".

  Raises:
    UserError: it has one of these characters.
  """
  whole = str(Path(path).absolute())
  if found := [character for character in _PATTERN if character in whole]:
    raise UserError(
      f"{where} {whole}: TensorFlow takes {' and '.join(found)} in a path for a pattern, and would "
      "not find the checkpoints below it. Rename the folder, or choose another."
    )


def tell_tensorflow(folder: Path) -> None:
  """Makes TensorFlow's file of names say which checkpoints there are, for `CheckpointManager`."""
  import tensorflow as tf  # Takes seconds; finding checkpoints needs none of it.

  checkpoints = checkpoints_in(folder)
  if not checkpoints:
    (folder / "checkpoint").unlink(missing_ok=True)
    return
  tf.__internal__.train.update_checkpoint_state(
    str(folder),
    checkpoints[-1],
    all_model_checkpoint_paths=checkpoints,
    save_relative_paths=True,
    # Those without a time would never be deleted.
    all_model_checkpoint_timestamps=[Path(f"{path}.index").stat().st_mtime for path in checkpoints],
    last_preserved_timestamp=0.0,
  )
