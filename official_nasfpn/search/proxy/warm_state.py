"""The file of the weights that all trials of a shared proxy start from."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from official_nasfpn.disk import FileLock
from official_nasfpn.errors import UserError
from official_nasfpn.progress import say
from official_nasfpn.training.start_weights import SHARED_WEIGHTS

_FINGERPRINT = "fingerprint"
_POLL_SECONDS = 0.5


def load_or_make(
  directory: Path,
  fingerprint: str,
  shapes: Mapping[str, tuple[int, ...]],
  make: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns the weights in a directory; makes them if they are missing, damaged or do not fit.

  If several processes call this at the same time, one makes the weights and the others wait. If
  that one dies, another takes over.

  Args:
    directory: the directory of the weights; created if need be.
    fingerprint: a hash of everything that decides the weights; others are made again.
    shapes: the shape of each weight, by name.
    make: trains, and returns the weights by name.

  Raises:
    UserError: the file cannot be read although it has just been written.
  """
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / SHARED_WEIGHTS.name
  lock = FileLock(directory / ".lock")
  has_made = False
  while (weights := _read(path, fingerprint, shapes)) is None:
    if has_made:
      raise UserError(f"{path} cannot be read back: its disk may be damaged. Move the search.")
    if not lock.acquire():
      time.sleep(_POLL_SECONDS)
      continue
    try:
      # Another process may have made them since.
      if _read(path, fingerprint, shapes) is None:
        _write(path, fingerprint, make())
        has_made = True
    finally:
      lock.release()
  return weights


def _write(path: Path, fingerprint: str, weights: Mapping[str, np.ndarray]) -> None:
  unfinished = path.with_name(f".{path.name}.{os.getpid()}")
  try:
    with unfinished.open("wb") as file:
      np.savez(file, **{_FINGERPRINT: np.array(fingerprint)}, **weights)
    unfinished.replace(path)
  except OSError:
    unfinished.unlink(missing_ok=True)
    raise


def _read(
  path: Path, fingerprint: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray] | None:
  """Returns the weights; None if the file does not hold them. Nothing in it is executed."""
  try:
    # Opened here: NumPy does not close a file that is no archive.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
      if str(file[_FINGERPRINT]) != fingerprint:
        return None
      weights = {name: file[name] for name in shapes}
  except FileNotFoundError:
    return None
  except Exception as error:  # Damage shows itself in any way: zlib's, zipfile's, NumPy's.
    say(f"{path} is damaged ({type(error).__name__}): the weights are made again.")
    return None
  if any(weights[name].shape != shape for name, shape in shapes.items()):
    return None
  if not all(np.isfinite(values).all() for values in weights.values()):
    return None
  return weights
