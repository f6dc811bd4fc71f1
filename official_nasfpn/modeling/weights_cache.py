"""The folder of published weights: what is in it is checked, what is not is fetched."""

import contextlib
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError

from official_nasfpn.disk import disk_errors, disk_problem
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import published_files
from official_nasfpn.modeling.imagenet_weights import PublishedFile
from official_nasfpn.modeling.published_weights import library_in
from official_nasfpn.modeling.torch_files import require_torch
from official_nasfpn.progress import progress_bar

# Names the folder; default: official_nasfpn/weights in the user's folder of caches.
FOLDER_VARIABLE = "NASFPN_WEIGHTS"
_SECONDS_WITHOUT_A_BYTE = 30
_CHUNK = 1 << 20


def cache_folder() -> Path:
  """Returns the folder of published weights, which need not exist."""
  if folder := os.environ.get(FOLDER_VARIABLE):
    return Path(folder).expanduser()
  caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return Path(caches).expanduser() / "official_nasfpn" / "weights"


def cached_file(file: PublishedFile) -> Path:
  """Returns the path of a published file, which is fetched unless it is there.

  Args:
    file: one with a `url`.

  Raises:
    UserError: it cannot be fetched or written, it is not what was published, or PyTorch is needed
      to read it and is not installed. Nothing new is left then.
  """
  path = cache_folder() / file.file
  if file.needs_torch:
    require_torch(file.url)
  if path.is_file():
    if problem := _problem(path, file):
      raise UserError(f"{path} {problem}. Delete it, and it is fetched again.")
    return path
  unfinished = path.with_name(f".{os.getpid()}-{path.name}")
  advice = f"Make room, mend its permissions or name another folder in {FOLDER_VARIABLE}."
  try:
    with disk_errors(path.parent, advice):
      path.parent.mkdir(parents=True, exist_ok=True)
      _download(file, unfinished, _by_hand(file, path))
      if problem := _problem(unfinished, file):
        raise UserError(f"What {file.url} gives {problem}. {_by_hand(file, path)}")
      unfinished.replace(path)
  finally:
    with contextlib.suppress(OSError):
      unfinished.unlink()
  return path


def _by_hand(file: PublishedFile, path: Path) -> str:
  checksum = f" ({file.checksum_text})" if file.checksum else ""
  return (
    f"Put that file{checksum} at {path}, or give another one by Training.backbone_weights = FILE."
  )


def _download(file: PublishedFile, path: Path, advice: str) -> None:
  """Writes what an address gives into a file, with a progress bar.

  Raises:
    UserError: there is no answer, or it ends too early.
    OSError: the disk cannot be written.
  """
  with path.open("wb") as stream, _network_errors(file, advice):
    with urllib.request.urlopen(file.url, timeout=_SECONDS_WITHOUT_A_BYTE) as response:
      length = response.headers.get("Content-Length")
      total = int(length) if length else None
      with progress_bar(total, f"fetch {file.name}", "B", unit_scale=True) as bar:
        while chunk := response.read(_CHUNK):
          stream.write(chunk)
          bar.update(len(chunk))
    if length and stream.tell() != total:
      raise OSError(f"the connection ended after {stream.tell():,} of {total:,} bytes")


@contextlib.contextmanager
def _network_errors(file: PublishedFile, advice: str) -> Iterator[None]:
  try:
    yield
  except (OSError, http.client.HTTPException) as error:
    if disk_problem(error):
      raise
    reason = error
    if isinstance(error, HTTPError):
      error.close()
    elif isinstance(error, URLError):
      reason = error.reason
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    raise UserError(f"{file.url} cannot be fetched: {text}. {advice}") from error


def _problem(path: Path, file: PublishedFile) -> str | None:
  """Returns what is wrong with a file, as the end of a sentence; None if nothing is."""
  if file.checksum:
    kind, digits = file.checksum
    found = _digest(path, kind)
    if not found.startswith(digits):
      return f"is not the published file: its checksum is {found}, not {file.checksum_text}"
  try:
    library = published_files.library_of(str(path), "it")
  except UserError as error:
    return f"is not the published file: {str(error).rstrip('.')}"
  if library != library_in(file.backbone):
    return f"is not the published file, but one for other backbones than {file.backbone}"
  return None


def _digest(path: Path, kind: str) -> str:
  digest = hashlib.new(kind, usedforsecurity=False)
  with path.open("rb") as stream:
    while chunk := stream.read(_CHUNK):
      digest.update(chunk)
  return digest.hexdigest()
