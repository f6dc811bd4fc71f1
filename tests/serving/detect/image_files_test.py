"""The image files that a command line names, and what is read from them."""

import pytest
from PIL import Image

from official_nasfpn.data.image_encoding import BrokenImageError, read_image
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.image_files import find_files


@pytest.fixture
def folder(tmp_path):
  for name in (
    "b.jpg",
    "a.PNG",
    "notes.txt",
    ".hidden.jpg",
    "deep/er/c.webp",
    "out/b.jpg",
    "[1].png",
  ):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
  return tmp_path


def names(paths, folder):
  return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_is_searched_to_the_bottom_for_images(folder):
  found = find_files([str(folder)], excluding=folder / "out")
  assert names(found, folder) == ["[1].png", "a.PNG", "b.jpg", "deep/er/c.webp"]


def test_files_and_patterns_are_taken_in_order_and_once(folder):
  patterns = [folder / "notes.txt", folder / "*.jpg", folder / "b.jpg", folder / "[1].png"]
  found = find_files([str(pattern) for pattern in patterns])
  assert names(found, folder) == ["notes.txt", "b.jpg", "[1].png"]
  assert names(find_files([f"{folder}/**/*.webp"]), folder) == ["deep/er/c.webp"]


def test_what_matches_nothing_is_an_error(folder):
  with pytest.raises(UserError, match=r"'.*nothing\*' is no file or folder"):
    find_files([str(folder / "b.jpg"), str(folder / "nothing*")])
  with pytest.raises(UserError, match="there are no images or videos"):
    find_files([str(folder / "out")], excluding=folder / "out")


def test_links_to_nothing_are_found_by_patterns(folder):
  (folder / "gone.jpg").symlink_to(folder / "nothing.jpg")
  (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
  found = find_files([f"{folder}/*o*.jpg"], excluding=folder / "out")
  assert names(found, folder) == ["gone.jpg", "loop.jpg"]


def test_why_a_file_cannot_be_used_is_said(tmp_path, photo):
  text, cut = tmp_path / "text.jpg", tmp_path / "cut.jpg"
  text.write_text("no image")
  photo(90, 90).save(cut)
  cut.write_bytes(cut.read_bytes()[:-200])
  for path, reason in [
    (text, "not in any known image format"),
    (cut, "truncated"),
    (tmp_path / "gone.jpg", "cannot be read: No such file"),
  ]:
    with pytest.raises(BrokenImageError, match=reason):
      read_image(path)


def test_what_tensorflow_cannot_decode_becomes_png(tmp_path, photo):
  path = tmp_path / "a.webp"
  photo(40, 30).save(path)
  image = read_image(path)
  assert (image.format, image.width, image.height) == ("png", 40, 30)


def test_an_exif_orientation_is_applied_as_in_training(tmp_path, photo):
  exif = Image.Exif()
  exif[0x0112] = 6  # Rotated by 90 degrees.
  photo(40, 30).save(tmp_path / "a.jpg", exif=exif)
  upright = read_image(tmp_path / "a.jpg")
  assert (upright.width, upright.height) == (30, 40)
  as_annotated = read_image(tmp_path / "a.jpg", (40, 30))
  assert (as_annotated.width, as_annotated.height) == (40, 30)
