"""Video files, frame by frame: reading and writing with OpenCV."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType

import numpy as np
from PIL import Image

from official_nasfpn.data.image_encoding import EncodedImage
from official_nasfpn.errors import UserError
from official_nasfpn.installation import require
from official_nasfpn.progress import say

# Files with these names are taken for videos, wherever they are given.
VIDEO_SUFFIXES = frozenset(
  (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")
)
# Where a file does not tell its rate.
_DEFAULT_FPS = 25.0
# What MPEG-4 has at most, in width and in height; the next even number is too large for it.
_MPEG4_SIDE = 8190
# MPEG-4 has a rate as a fraction, and this is the largest number in it.
_MPEG4_LARGEST = 65_535
# Of what is lower OpenCV makes 0.
_LOWEST_FPS = 0.002
# From this share on it is said that a rate is another one.
_OTHER_FPS = 0.01
# Room for the header of a video.
_HEADER_BYTES = 4096
# A file says how long it is, some only roughly. One that ends before this share of it was cut off.
_WHOLE = 0.95


class BrokenVideoError(Exception):
  """OpenCV cannot read the video, or not to its end, or cannot write one with its pictures."""


@dataclass(frozen=True)
class Frame:
  """A position in a video.

  Attributes:
    number: counted from 0.
    seconds: the time at which it is shown.
  """

  number: int
  seconds: float


class VideoReader:
  """An open video file.

  Attributes:
    fps: frames per second.
    num_frames: number of frames by the file's header, which may be rough; None if it has none.
  """

  def __init__(self, path: Path):
    """Opens a video.

    Args:
      path: the file.

    Raises:
      BrokenVideoError: it is no video that OpenCV can read.
    """
    try:
      path.open("rb").close()
    except OSError as error:
      raise BrokenVideoError(f"cannot be read: {error.strerror}") from error
    cv2 = _opencv()
    # Absolute: FFmpeg takes what stands before a colon for a protocol.
    self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not self._capture.isOpened():
      raise BrokenVideoError("not a video that OpenCV can read")
    fps = self._capture.get(cv2.CAP_PROP_FPS)
    count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
    self.fps = fps if math.isfinite(fps) and fps > 0 else _DEFAULT_FPS
    self.num_frames = round(count) if math.isfinite(count) and count > 0 else None

  def frames(self) -> Iterator[tuple[Frame, EncodedImage]]:
    """Decodes the video once.

    Yields:
      The frames in order, as BMP, which loses nothing and takes no time.

    Raises:
      BrokenVideoError: there is no frame, or the video breaks off or changes its size on the way.
    """
    cv2 = _opencv()
    number, seconds, size = 0, 0.0, None
    while True:
      is_read, pixels = self._capture.read()
      if not is_read:
        break
      height, width = pixels.shape[:2]
      if size not in (None, (width, height)):
        raise BrokenVideoError(
          f"frame {number} is {width}x{height}, those before {size[0]}x{size[1]}"
        )
      size = width, height
      # Some files have no times of their own.
      seconds = max(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 0.0) or number / self.fps
      data = cv2.imencode(".bmp", pixels)[1].tobytes()
      yield Frame(number, seconds), EncodedImage(data, "bmp", width, height)
      number += 1
    if not number:
      raise BrokenVideoError("a video without a single frame that can be read")
    end = max(seconds + 1 / self.fps, number / self.fps)
    if self.num_frames and end < _WHOLE * self.num_frames / self.fps:
      raise BrokenVideoError(f"breaks off after {number} of {self.num_frames} frames")

  def __enter__(self) -> "VideoReader":
    return self

  def __exit__(self, *error: object) -> None:
    self._capture.release()


class VideoWriter:
  """A video file in the making, MPEG-4 in an .mp4 file; the first frame decides its size.

  Args:
    path: the file, named .mp4.
    fps: frames per second; see `writable_fps`. It is said where that is quite another rate.

  Raises:
    UserError: on leaving the context, the file is not whole.
  """

  def __init__(self, path: Path, fps: float):
    self._path = path
    self._fps = fps
    self._writer = None
    self._size = (0, 0)
    self._num_frames = 0

  def write(self, picture: Image.Image) -> None:
    """Appends a frame.

    Args:
      picture: RGB, all of one size. What is larger than a video can be is made smaller, which is
        said. Of an odd width or height the last pixels are left out, since the codec has even ones
        only.

    Raises:
      BrokenVideoError: no video can be made of such pictures.
      UserError: the file cannot be written.
    """
    if max(picture.size) > _MPEG4_SIDE:
      width, height = picture.size
      picture = picture.copy()
      picture.thumbnail((_MPEG4_SIDE, _MPEG4_SIDE))
      if self._writer is None:
        say(
          f"The pictures of {self._path.name.removeprefix('.')} are made smaller, from {width:,} x "
          f"{height:,} to {picture.width:,} x {picture.height:,} pixels: MPEG-4 has at most "
          f"{_MPEG4_SIDE:,} a side."
        )
    if self._writer is None:
      self._open(picture.width // 2 * 2, picture.height // 2 * 2)
    width, height = self._size
    self._writer.write(np.ascontiguousarray(np.asarray(picture)[:height, :width, ::-1]))
    self._num_frames += 1

  def _open(self, width: int, height: int) -> None:
    cv2 = _opencv()
    self._size = width, height
    fps = writable_fps(self._fps)
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    file = str(self._path.absolute())
    self._writer = cv2.VideoWriter(file, cv2.CAP_FFMPEG, codec, fps, self._size)
    if not self._writer.isOpened():
      # OpenCV does not tell why. Where other bytes can be written it is not the disk.
      try:
        self._path.write_bytes(bytes(_HEADER_BYTES))
      except OSError as error:
        raise UserError(f"{self._path} cannot be written: {error.strerror}.") from error
      raise BrokenVideoError(
        f"no MPEG-4 video can be made of {width}x{height} pixels and {fps:g} frames per second"
      )
    if abs(fps / self._fps - 1) > _OTHER_FPS:
      say(
        f"{self._path.name.removeprefix('.')} is made with {fps:g} frames per second, since "
        f"{self._fps:g} cannot be written."
      )

  def __enter__(self) -> "VideoWriter":
    return self

  def __exit__(
    self, type_: type | None, error: BaseException | None, traceback: TracebackType | None
  ) -> None:
    if self._writer is not None:
      self._writer.release()
    if type_ is None and not self._is_whole():
      raise UserError(f"{self._path} cannot be written in full: the disk may be full.")

  def _is_whole(self) -> bool:
    """Returns whether all frames are in the file; OpenCV tells nobody when the disk is full."""
    cv2 = _opencv()
    capture = cv2.VideoCapture(str(self._path.absolute()), cv2.CAP_FFMPEG)
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0
    capture.release()
    return round(count) == self._num_frames


def writable_fps(fps: float) -> float:
  """Returns a rate near a given one that OpenCV can write into MPEG-4."""
  fps = min(max(fps, _LOWEST_FPS), _MPEG4_LARGEST)
  # OpenCV takes the first decimals that are within 0.001, whatever number that makes.
  rates = (Fraction(round(fps * scale), scale) for scale in (1000, 100, 10, 1))
  return float(next(rate for rate in rates if rate.numerator <= _MPEG4_LARGEST))


def is_video(path: Path) -> bool:
  """Returns whether a file is to be read as a video, by its name."""
  return path.suffix.lower() in VIDEO_SUFFIXES


def require_opencv() -> None:
  """Raises a `UserError` where OpenCV is not installed."""
  require("Detecting in videos", "cv2")


def _opencv() -> ModuleType:
  require_opencv()
  # FFmpeg and OpenCV would write their own words about a broken video between ours.
  os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
  import cv2

  cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
  return cv2
