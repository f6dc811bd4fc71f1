"""Reading and writing videos with OpenCV, and the errors."""

import re

import cv2
import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.video_files import (
  BrokenVideoError,
  VideoReader,
  VideoWriter,
  writable_fps,
)


def read(path):
  with VideoReader(path) as reader:
    return reader, list(reader.frames())


def write(path, fps, pictures):
  with VideoWriter(path, fps) as writer:
    for picture in pictures:
      writer.write(picture)


@pytest.mark.parametrize(("codec", "suffix"), [("mp4v", ".mp4"), ("MJPG", ".avi")])
def test_frames_come_in_order_with_their_times_and_colours(tmp_path, make_video, codec, suffix):
  path, pictures = make_video(tmp_path / f"a b{suffix}", 7, codec=codec, fps=12.5)
  reader, frames = read(path)
  assert (reader.fps, reader.num_frames) == (12.5, 7)
  assert [frame.number for frame, _ in frames] == list(range(7))
  assert [frame.seconds for frame, _ in frames] == pytest.approx([i / 12.5 for i in range(7)])
  for (_, encoded), picture in zip(frames, pictures, strict=True):
    assert (encoded.format, encoded.width, encoded.height) == ("bmp", *picture.size)
    # As an export decodes it; swapped channels would differ by about 60.
    decoded = tf.io.decode_image(encoded.data, channels=3, expand_animations=False).numpy()
    assert np.abs(decoded.astype(float) - np.asarray(picture)).mean() < 6


@pytest.mark.parametrize("size", [(64, 48), (63, 47), (1, 1), (2, 3)])
def test_a_bmp_of_any_width_is_what_was_encoded(size):
  # Rows of a BMP are padded to four bytes.
  pixels = np.random.default_rng(0).integers(0, 256, [size[1], size[0], 3], np.uint8)
  data = cv2.imencode(".bmp", pixels)[1].tobytes()
  decoded = tf.io.decode_image(data, channels=3, expand_animations=False)
  np.testing.assert_array_equal(decoded, pixels[:, :, ::-1])


@pytest.mark.parametrize(
  ("content", "reason"),
  [
    (lambda data: b"", "not a video that OpenCV can read"),
    (lambda data: b"no video", "not a video that OpenCV can read"),
    (lambda data: data[: len(data) // 2], r"breaks off after \d+ of 20 frames"),
  ],
)
def test_why_a_video_cannot_be_used_is_said(tmp_path, make_video, content, reason):
  path, _ = make_video(tmp_path / "a.avi", 20, codec="MJPG")
  path.write_bytes(content(path.read_bytes()))
  with pytest.raises(BrokenVideoError, match=f"^{reason}$"):
    read(path)


def test_a_missing_file_and_a_video_without_frames_are_told_apart(tmp_path, make_video):
  with pytest.raises(BrokenVideoError, match="cannot be read: No such file"):
    read(tmp_path / "gone.mp4")
  path, _ = make_video(tmp_path / "none.avi", 1, codec="MJPG")
  data = path.read_bytes()
  # The frame's data and its entry in the index are missing.
  path.write_bytes(data[: re.search(rb"movi", data).end()])
  with pytest.raises(BrokenVideoError, match="without a single frame"):
    read(path)


def test_what_is_written_is_read_again_in_even_numbers_of_pixels(tmp_path, photo):
  pictures = [photo(121, 63, seed=seed) for seed in range(5)]
  write(tmp_path / "out.mp4", 29.97, pictures)
  reader, frames = read(tmp_path / "out.mp4")
  assert reader.fps == pytest.approx(29.97, abs=1e-3)
  for (_, encoded), picture in zip(frames, pictures, strict=True):
    assert (encoded.width, encoded.height) == (120, 62)
    decoded = tf.io.decode_image(encoded.data, channels=3).numpy().astype(float)
    assert np.abs(decoded - np.asarray(picture)[:62, :120]).mean() < 6


def test_pictures_that_are_too_wide_for_a_video_are_made_smaller_and_said_once(
  tmp_path, photo, capsys
):
  """As those of seven exits beside each other are."""
  write(tmp_path / "wide.mp4", 25.0, [photo(9_000, 200)] * 2)
  _, frames = read(tmp_path / "wide.mp4")
  assert {(encoded.width, encoded.height) for _, encoded in frames} == {(8190, 182)}
  assert capsys.readouterr().err.count("from 9,000 x 200 to 8,190 x 182 pixels") == 1


def test_a_video_that_does_not_get_onto_the_disk_is_an_error(tmp_path, photo, small_disk):
  pictures = [photo(320, 240, seed=seed) for seed in range(30)]
  with small_disk(3_000), pytest.raises(UserError, match=r"out\.mp4 cannot be written in full"):
    write(tmp_path / "out.mp4", 25.0, pictures)
  with pytest.raises(UserError, match=r"out\.mp4 cannot be written: No such file or directory\."):
    write(tmp_path / "no" / "out.mp4", 25.0, pictures)


@pytest.mark.parametrize(
  ("fps", "expected"),
  [
    # MPEG-4 holds fractions of numbers up to 65535.
    (24_000 / 1001, 23.976),
    (65.535, 65.535),
    (65.537, 65.54),
    (119.9520479, 119.952),
    (239.834, 239.83),
    (655.37, 655.4),
    (6553.71, 6554.0),
  ],
)
def test_a_rate_that_mpeg_4_does_not_have_is_rounded(tmp_path, photo, capsys, fps, expected):
  assert writable_fps(fps) == expected
  write(tmp_path / "out.mp4", fps, [photo(64, 48)] * 3)
  reader, frames = read(tmp_path / "out.mp4")
  assert reader.fps == pytest.approx(expected, rel=1e-4)
  assert len(frames) == 3
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  ("fps", "expected"), [(90_000, 65_535), (1 / 3600, 0.002), (1 / 60, 0.017)]
)
def test_quite_another_rate_is_said(tmp_path, photo, capsys, fps, expected):
  write(tmp_path / "out.mp4", fps, [photo(64, 48)] * 3)
  reader, frames = read(tmp_path / "out.mp4")
  assert reader.fps == pytest.approx(expected)
  assert len(frames) == 3
  assert f"frames per second, since {fps:g} cannot be written" in capsys.readouterr().err


def test_pictures_that_make_no_video_are_told_from_a_full_disk(tmp_path, photo, small_disk):
  with pytest.raises(BrokenVideoError, match="no MPEG-4 video can be made of 0x48 pixels and 25"):
    write(tmp_path / "out.mp4", 25.0, [photo(1, 48)])
  with small_disk(0), pytest.raises(UserError, match="cannot be written: File too large"):
    write(tmp_path / "full.mp4", 25.0, [photo(64, 48)])
