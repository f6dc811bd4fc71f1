"""A prepared data directory: what `nasfpn prepare` writes and every reader checks.

The directory holds `dataset.json` (this module), `label_map.json`, for each part (train, holdout,
val) its TFRecord shards and its annotations as COCO JSON, `{part}.json`.
"""

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.json_text import parse_json

FORMAT_VERSION = 1
PARTS = ("train", "holdout", "val")
# The image id of rows that fill batches up. Datasets may have any other number, -1 among them.
FILLER_ID = -(2**63)


@dataclass(frozen=True)
class Shard:
  """One TFRecord file: its name in the data directory and its length in bytes."""

  file: str
  bytes: int


@dataclass(frozen=True)
class Part:
  """One part of a dataset.

  Attributes:
    num_images: images in it, those without boxes included.
    num_boxes: boxes in it, crowds included.
    images_dir: the folder of the original images; relative to the data directory where the images
      lie inside it.
    shards: its TFRecord files.
  """

  num_images: int
  num_boxes: int
  images_dir: str
  shards: tuple[Shard, ...]


@dataclass(frozen=True)
class DatasetInfo:
  """The content of a prepared data directory.

  Attributes:
    data_dir: the directory.
    label_map: the classes.
    source: what it was made from; hashes of annotation files and images.
    settings: how it was split and written, the seed included.
    parts: the parts by name, those of `PARTS`.
    report: what was dropped or mended, by problem: {"count": int, "examples": [str, ...]}.
  """

  data_dir: Path
  label_map: LabelMap
  source: Mapping[str, Any]
  settings: Mapping[str, Any]
  parts: Mapping[str, Part]
  report: Mapping[str, Any]

  def num_images(self, parts: Sequence[str]) -> int:
    """Returns the number of images of some parts together."""
    return sum(self._part(name).num_images for name in parts)

  def shard_paths(self, parts: Sequence[str]) -> list[str]:
    """Returns the TFRecord files of some parts."""
    return [str(self.data_dir / shard.file) for name in parts for shard in self._part(name).shards]

  def annotation_file(self, part: str) -> Path:
    """Returns the COCO JSON with the annotations of a part, in the dataset's category ids."""
    self._part(part)
    return self.data_dir / f"{part}.json"

  def images_dir(self, part: str) -> Path:
    """Returns the folder to which the file names in the annotation file are relative."""
    return self.data_dir / self._part(part).images_dir

  def check_files(self) -> None:
    """Refuses a directory of which a file is missing, or a shard has another length.

    Raises:
      UserError: names the file, and what to do.
    """
    for name, part in self.parts.items():
      for shard in part.shards:
        path = self.data_dir / shard.file
        if not path.is_file():
          raise UserError(f"{path} is missing. {self.remedy}")
        size = path.stat().st_size
        if size != shard.bytes:
          raise UserError(
            f"{path} has {size} bytes where {shard.bytes} were written. {self.remedy}"
          )
      if not self.annotation_file(name).is_file():
        raise UserError(f"{self.annotation_file(name)} is missing. {self.remedy}")

  @property
  def remedy(self) -> str:
    """What to do where a file is damaged, as a sentence."""
    return (
      f"Copy {self.data_dir} again in full, or delete it and prepare the dataset again: "
      f"`{self._command()}`."
    )

  def _command(self) -> str:
    """Returns the command that has made this directory."""
    options: dict[str, Any] = {}
    for part, prefix in (("train", ""), ("val", "val_")):
      if part in self.source:
        options[f"{prefix}annotations"] = self.source[part].get("annotations")
        options[f"{prefix}images"] = self.source[part].get("images_dir")
    if shapes := self.source.get("shapes"):
      options = {name: shapes.get(name) for name in ("num_images", "image_size")}
    options |= {"output_dir": self.data_dir, **self.settings}
    words = ["nasfpn", "prepare", *(["--synthetic"] if shapes else [])]
    words += [f"--{name}={value}" for name, value in options.items() if value is not None]
    return shlex.join(words)

  def _part(self, name: str) -> Part:
    if name not in self.parts:
      raise UserError(f"{self.data_dir} has no part {name!r}; its parts: {', '.join(self.parts)}.")
    return self.parts[name]

  @property
  def identity(self) -> dict[str, Any]:
    """What tells this dataset from another; see `identity_of`."""
    return identity_of(self.source, self.settings)

  def save(self) -> None:
    """Writes `dataset.json` and `label_map.json`."""
    self.label_map.save(self.data_dir / "label_map.json")
    content = {
      "format_version": FORMAT_VERSION,
      "source": self.source,
      "settings": self.settings,
      "parts": {name: dataclasses.asdict(part) for name, part in self.parts.items()},
      "report": self.report,
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (self.data_dir / "dataset.json").write_text(text, encoding="utf-8")

  @classmethod
  def load(cls, data_dir: str | Path) -> "DatasetInfo":
    """Reads and checks a data directory.

    Raises:
      UserError: it is not a prepared data directory, or a file in it is missing or truncated.
    """
    data_dir = Path(data_dir)
    path = data_dir / "dataset.json"
    if not path.is_file():
      missing = "no dataset.json" if data_dir.is_dir() else "no such folder"
      raise UserError(
        f"{str(data_dir)!r} holds no prepared dataset ({missing}). Make it with "
        "`nasfpn prepare --annotations FILE.json --images FOLDER --output_dir "
        f"{shlex.quote(str(data_dir))}`."
      )
    try:
      content = parse_json(path.read_text(encoding="utf-8"))
      if content["format_version"] != FORMAT_VERSION:
        raise UserError(
          f"{path} has format version {content['format_version']}; this program reads version "
          f"{FORMAT_VERSION}. Prepare the dataset again."
        )
      parts = {name: _read_part(part) for name, part in content["parts"].items()}
      source, settings, report = content["source"], content["settings"], content["report"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
      raise UserError(f"{path} is damaged ({error!r}). Prepare the dataset again.") from error
    label_map = LabelMap.load(data_dir / "label_map.json")
    info = cls(data_dir, label_map, source, settings, parts, report)
    info.check_files()
    return info


def is_prepared(data_dir: str | Path) -> bool:
  """Returns whether a folder is a prepared data directory, whole or damaged."""
  return bool(data_dir) and (Path(data_dir) / "dataset.json").is_file()


def identity_of(source: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what tells one dataset from another: everything but the paths of its source.

  Args:
    source: a `DatasetInfo.source`.
    settings: a `DatasetInfo.settings`.
  """
  described = {
    f"{part} {key}": value
    for part, values in source.items()
    for key, value in values.items()
    if key not in ("annotations", "images_dir")
  }
  return {**described, **settings}


def _read_part(content: Mapping[str, Any]) -> Part:
  shards = tuple(Shard(**shard) for shard in content["shards"])
  return Part(**{**content, "shards": shards})
