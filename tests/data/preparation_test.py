"""Preparing a dataset from end to end: untidy input, repetition, interruption, a full disk."""

import dataclasses
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from official.vision.dataloaders import tf_example_decoder
from PIL import Image

from official_nasfpn.data import preparation
from official_nasfpn.data.coco_json import AnnotatedImage
from official_nasfpn.data.dataset_info import PARTS, DatasetInfo
from official_nasfpn.data.preparation import PreparedDataset, prepare_dataset
from official_nasfpn.data.shapes import ShapesConfig
from official_nasfpn.errors import UserError

DECODER = tf_example_decoder.TfExampleDecoder()
# Everything in train: one place to look at.
ALL_TRAIN = {"validation_fraction": 0.0, "holdout_fraction": 0.0}


class Source(NamedTuple):
  annotations: Path
  images_dir: Path


def _prepare(source, output_dir, **options):
  """Returns what the directory holds, and whether it was written just now."""
  given = {"shapes": source}
  if isinstance(source, Source):
    given = {"annotations": source.annotations, "images": source.images_dir}
  prepared = prepare_dataset(output_dir, **given, **{"num_threads": 2, **options})
  return DatasetInfo.load(prepared.folder), prepared.is_new


def _picture(path, width=60, height=40, mode="RGB", **options):
  # Another picture for every name.
  noise = np.random.default_rng(list(path.name.encode())).integers(
    0, 256, (height, width, 3), np.uint8
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(noise).convert(mode).save(path, **options)


def _coco(images, boxes, categories=((9, "nine"), (4, "four"))):
  """Returns COCO JSON of (id, file name) and (image id, category id, box)."""
  return {
    "images": [{"id": id_, "file_name": name, "width": 60, "height": 40} for id_, name in images],
    "annotations": [
      {"id": i, "image_id": image_id, "category_id": category_id, "bbox": box, "iscrowd": 0}
      for i, (image_id, category_id, box) in enumerate(boxes)
    ],
    "categories": [{"id": id_, "name": name} for id_, name in categories],
  }


def _source(folder, content, name="all.json"):
  path = folder / name
  path.write_text(json.dumps(content))
  return Source(path, folder / "images")


@pytest.fixture
def plain(tmp_path):
  """A clean source of ten images with a box each."""
  images = [(i, f"{i}.png") for i in range(1, 11)]
  for _, name in images:
    _picture(tmp_path / "images" / name)
  return _source(tmp_path, _coco(images, [(i, 9, [i, 1, 10, 10]) for i, _ in images]))


def _examples(info, part):
  """Returns what Model Garden's decoder reads of a part, by image id."""
  records = tf.data.TFRecordDataset(info.shard_paths((part,)))
  decoded = [DECODER.decode(record) for record in records]
  return {int(example["source_id"].numpy()): example for example in decoded}


def test_untidy_dataset_is_mended_and_reported(tmp_path):
  images = tmp_path / "images"
  _picture(images / "fine.jpg")
  _picture(images / "grey.jpg", mode="L")
  _picture(images / "cmyk.jpg", mode="CMYK")
  _picture(images / "deep" / "deeper.png")
  _picture(images / "other_size.png", 30, 20)
  _picture(images / "format.webp")
  _picture(images / "empty.png")
  _picture(images / "crowded.png")
  _picture(
    images / "lying.jpg",
    40,
    60,
    exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
  )
  _picture(images / "broken.jpg")
  broken = images / "broken.jpg"
  broken.write_bytes(broken.read_bytes()[:300])
  names = [
    "fine.jpg", "grey.jpg", "cmyk.jpg", "deep/deeper.png", "other_size.png", "format.webp",
    "empty.png", "crowded.png", "lying.jpg", "broken.jpg", "missing.jpg",
  ]  # fmt: skip
  entries = [*enumerate(names), (0, "fine.jpg")]
  box = [10, 5, 20, 10]
  boxes = [(i, 4, box) for i in range(11) if i != 6]
  boxes += [(7, 9, box)] * 150
  boxes += [
    (0, 9, [55, 35, 5.00001, 5]), (0, 9, [70, 5, 10, 10]), (0, 9, [5, 5, 0, 10]), (0, 1, box),
    (0, 9, [1, 2, 3]), (99, 9, box),
  ]  # fmt: skip
  content = _coco(entries, boxes)
  content["annotations"][1]["iscrowd"] = 1
  info, is_new = _prepare(_source(tmp_path, content), tmp_path / "out", **ALL_TRAIN)

  assert is_new
  assert {problem: found["count"] for problem, found in info.report.items()} == {
    "images_missing": 1,
    "images_broken": 1,
    "images_duplicate_id": 1,
    "images_other_size": 1,
    "images_turned": 1,
    "images_reencoded": 1,
    "images_without_boxes": 1,
    "images_many_boxes": 1,
    "boxes_unknown_image": 1,
    "boxes_unknown_category": 1,
    "boxes_malformed": 1,
    "boxes_no_area": 1,
    "boxes_outside": 1,
    "boxes_clipped": 1,
    "boxes_crowd": 1,
  }
  examples = _examples(info, "train")
  assert sorted(examples) == list(range(9))
  assert info.num_images(("train",)) == 9
  for id_, example in examples.items():
    shape = (20, 30, 3) if names[id_] == "other_size.png" else (40, 60, 3)
    assert example["image"].shape == shape, names[id_]
    assert (example["height"], example["width"]) == shape[:2]
  # Category 4 sorts before 9, so it is label 1.
  np.testing.assert_array_equal(examples[0]["groundtruth_classes"], [1, 2])
  np.testing.assert_allclose(
    examples[0]["groundtruth_boxes"],
    [[5 / 40, 10 / 60, 15 / 40, 30 / 60], [35 / 40, 55 / 60, 1, 1]],
    rtol=1e-6,
  )
  np.testing.assert_array_equal(examples[1]["groundtruth_is_crowd"], [True])
  assert len(examples[6]["groundtruth_classes"]) == 0
  assert len(examples[7]["groundtruth_classes"]) == 151
  np.testing.assert_allclose(examples[4]["groundtruth_boxes"], [[5 / 20, 10 / 30, 15 / 20, 1]])


def test_annotations_of_a_part_are_what_its_records_hold(tmp_path, plain):
  info, _ = _prepare(plain, tmp_path / "out", num_shards=3)
  for part in PARTS:
    content = json.loads(info.annotation_file(part).read_text())
    examples = _examples(info, part)
    assert {image["id"] for image in content["images"]} == set(examples)
    # COCO's evaluation takes a match with annotation 0 for no match.
    assert [row["id"] for row in content["annotations"]] == list(range(1, len(examples) + 1))
    for row in content["annotations"]:
      assert row["category_id"] == 9
      assert row["bbox"] == [float(row["image_id"]), 1.0, 10.0, 10.0]
      assert row["area"] == 100
    assert info.parts[part].num_boxes == len(content["annotations"])
    assert info.images_dir(part) == plain.images_dir


def test_parts_are_a_seeded_choice_of_exact_size(tmp_path, plain):
  def ids(name, **values):
    info, _ = _prepare(plain, tmp_path / name, **values)
    return [set(_examples(info, part)) for part in PARTS]

  train, holdout, val = first = ids("a")
  assert [len(part) for part in first] == [6, 2, 2]
  assert train | holdout | val == set(range(1, 11))
  assert ids("b", num_shards=1) == first
  assert ids("c", seed=1) != first
  assert [len(part) for part in ids("d", holdout_fraction=0.01)] == [7, 1, 2]
  assert [len(part) for part in ids("e", num_holdout=3)] == [5, 3, 2]


def test_a_holdout_of_all_training_images_is_refused(tmp_path, plain):
  with pytest.raises(UserError, match="--num_holdout=8 leaves none of the 8 training images"):
    _prepare(plain, tmp_path / "out", num_holdout=8)
  assert not list(tmp_path.glob("*out*"))


def test_shards_hold_at_most_a_thousand_images(tmp_path, monkeypatch, plain):
  monkeypatch.setattr(preparation, "_SHARD_IMAGES", 1)
  info, _ = _prepare(plain, tmp_path / "out", **ALL_TRAIN)
  assert [len(info.parts[part].shards) for part in PARTS] == [10, 0, 0]


def test_images_in_the_order_of_the_file_are_dealt_out_shuffled(shapes_info):
  content = json.loads(shapes_info.annotation_file("train").read_text())
  ids = [image["id"] for image in content["images"]]
  assert sorted(ids) != ids


def test_validation_part_of_its_own(tmp_path, plain):
  _picture(tmp_path / "val_images" / "v.png")
  val = _source(tmp_path, _coco([(1, "v.png")], [(1, 4, [1, 1, 5, 5])]), "val.json")
  validation = {"val_annotations": val.annotations, "val_images": tmp_path / "val_images"}
  info, _ = _prepare(plain, tmp_path / "out", **validation)
  assert [info.num_images((part,)) for part in PARTS] == [8, 2, 1]
  assert info.images_dir("val") == tmp_path / "val_images"
  np.testing.assert_array_equal(_examples(info, "val")[1]["groundtruth_classes"], [1])


def test_parts_with_different_names_for_a_category_are_refused(tmp_path, plain):
  val = _source(tmp_path, _coco([(1, "1.png")], [], ((9, "neun"),)), "val.json")
  with pytest.raises(UserError, match=r"Category 9 is 'nine' in .* and 'neun' in"):
    _prepare(plain, tmp_path / "out", val_annotations=val.annotations)


def test_wrong_images_folder_is_explained(tmp_path, plain):
  (tmp_path / "elsewhere").mkdir()
  source = Source(plain.annotations, tmp_path / "elsewhere")
  with pytest.raises(UserError, match=r"None of the \d train images is in .*elsewhere"):
    _prepare(source, tmp_path / "out")
  assert not list(tmp_path.glob("*out*"))


def test_images_are_found_when_the_json_names_folders_that_are_not_there(tmp_path, plain):
  content = json.loads(plain.annotations.read_text())
  for image in content["images"]:
    image["file_name"] = f"/home/me/pictures/{image['file_name']}"
  info, _ = _prepare(_source(tmp_path, content), tmp_path / "out", **ALL_TRAIN)
  assert info.num_images(("train",)) == 10


def test_no_image_that_can_be_decoded_is_an_error(tmp_path, plain):
  for path in plain.images_dir.iterdir():
    path.write_bytes(b"not an image")
  with pytest.raises(UserError, match=r"10 train images can be decoded, .*\d\.png: not in any"):
    _prepare(plain, tmp_path / "out", **ALL_TRAIN)


def test_images_of_more_pixels_than_are_wanted_are_left_out(tmp_path, plain):
  _picture(plain.images_dir / "3.png", 61, 40)
  info, _ = _prepare(plain, tmp_path / "out", max_image_pixels=2400, **ALL_TRAIN)
  assert info.num_images(("train",)) == 9
  (example,) = info.report["images_broken"]["examples"]
  assert example == "3.png: it declares 61 x 40 pixels, and at most 2,400 are decoded"


def _snapshot(folder):
  return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_again_repeats_nothing(tmp_path, plain):
  first, _ = _prepare(plain, tmp_path / "out")
  before = _snapshot(tmp_path / "out")
  second, is_new = _prepare(plain, tmp_path / "out", num_threads=1)
  assert not is_new
  assert second == first
  assert _snapshot(tmp_path / "out") == before


def test_source_may_move_between_runs(tmp_path, plain):
  info, _ = _prepare(plain, tmp_path / "out")
  shutil.move(plain.images_dir, tmp_path / "moved")
  source = Source(plain.annotations, tmp_path / "moved")
  assert _prepare(source, tmp_path / "out")[1] is False
  # Elsewhere it becomes the same dataset once more; with another seed it does not.
  assert _prepare(source, tmp_path / "again")[0].identity == info.identity
  other, _ = _prepare(source, tmp_path / "other", seed=1)
  assert other.identity != info.identity


@pytest.mark.parametrize("change", ["seed", "annotations", "image", "added image", "shapes"])
def test_directory_of_another_dataset_is_never_overwritten(tmp_path, plain, change):
  (plain.images_dir / "7.png").rename(tmp_path / "7.png")
  _prepare(plain, tmp_path / "out")
  before = _snapshot(tmp_path / "out")
  source, options = plain, {}
  if change == "seed":
    options = {"seed": 1}
  elif change == "annotations":
    plain.annotations.write_text(plain.annotations.read_text() + "\n")
  elif change == "image":
    _picture(plain.images_dir / "3.png", 50, 50)
  elif change == "added image":
    (tmp_path / "7.png").rename(plain.images_dir / "7.png")
  else:
    source = ShapesConfig()
  with pytest.raises(UserError, match=r"holds a dataset prepared from other input: .* differ"):
    _prepare(source, tmp_path / "out", **options)
  assert _snapshot(tmp_path / "out") == before


def test_directory_with_other_files_is_refused(tmp_path, plain):
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "thesis.txt").write_text("all my work")
  with pytest.raises(UserError, match="holds files, but no prepared dataset"):
    _prepare(plain, tmp_path / "out")
  assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
  with pytest.raises(UserError, match="is a file"):
    _prepare(plain, tmp_path / "out" / "thesis.txt")


def test_empty_directory_and_missing_parents_are_fine(tmp_path, plain):
  (tmp_path / "empty").mkdir()
  assert _prepare(plain, tmp_path / "empty")[1]
  assert _prepare(plain, tmp_path / "not" / "yet there")[1]


def test_truncated_shard_is_reported_not_taken_for_done(tmp_path, plain):
  info, _ = _prepare(plain, tmp_path / "out")
  path = Path(info.shard_paths(("train",))[0])
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match=r"00000-of-\d+\.tfrecord has \d+ bytes"):
    _prepare(plain, tmp_path / "out")


@contextmanager
def _file_size_limit(size):
  """Makes every write beyond a file size fail, as a full disk does."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("what", ["records", "drawings"])
def test_full_disk_is_an_error_for_people_and_leaves_nothing_behind(tmp_path, plain, what):
  source = plain if what == "records" else ShapesConfig(3, 96)
  with (
    _file_size_limit(20_000 if what == "records" else 1000),
    pytest.raises(UserError, match=r"cannot be written: (File too large|No space)"),
  ):
    _prepare(source, tmp_path / "out", num_shards=1)
  assert not list(tmp_path.glob("*out*"))
  assert _prepare(source, tmp_path / "out", num_shards=1)[1]


def _start(output_dir):
  command = [sys.executable, "-m", "official_nasfpn.prepare_data", "--synthetic"]
  command += ["--num_images=60", "--image_size=96", f"--output_dir={output_dir}"]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _wait_until_it_draws(output_dir):
  deadline = time.monotonic() + 60
  while not list(output_dir.parent.glob(f".{output_dir.name}.partial-*/images/000003.jpg")):
    assert time.monotonic() < deadline
    time.sleep(0.001)


def test_killed_run_leaves_no_dataset_and_the_next_run_cleans_up(tmp_path):
  output_dir = tmp_path / "out"
  process = _start(output_dir)
  _wait_until_it_draws(output_dir)
  process.kill()
  process.communicate()
  assert not output_dir.exists()
  assert len(list(tmp_path.iterdir())) == 1
  info, is_new = _prepare(ShapesConfig(60, 96), output_dir)
  assert is_new
  assert info.num_images(PARTS) == 60
  assert list(tmp_path.iterdir()) == [output_dir]


# Where the tests run in the background of a shell, they ignore Ctrl-C, and so would the program.
_INTERRUPTIBLE = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("official_nasfpn.prepare_data", run_name="__main__")
"""


def _start_coco(source, output_dir):
  command = [sys.executable, "-c", _INTERRUPTIBLE, f"--output_dir={output_dir}"]
  command += [f"--annotations={source.annotations}", f"--images={source.images_dir}"]
  command += ["--num_shards=8", "--num_threads=1"]
  return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def large(tmp_path):
  """A source of 160 images that take a while to decode."""
  images = [(i, f"{i}.png") for i in range(1, 161)]
  _picture(tmp_path / "images" / "1.png", 500, 400)
  for _, name in images[1:]:
    shutil.copy(tmp_path / "images" / "1.png", tmp_path / "images" / name)
  # Outside of the image, without a box, of an unknown category: reports are kept, too.
  boxes = [(i, 9 if i % 5 else 3, [i, 1, 10, 10]) for i, _ in images if i % 7]
  return _source(tmp_path, _coco(images, boxes))


@pytest.mark.parametrize(
  ("stop", "part"), [(signal.SIGKILL, "train"), (signal.SIGINT, "train"), (signal.SIGKILL, "val")]
)
def test_who_is_interrupted_goes_on_with_the_shards_that_are_missing(tmp_path, large, stop, part):
  options = {"num_shards": 8}
  undisturbed, _ = _prepare(large, tmp_path / "undisturbed", **options)
  output_dir = tmp_path / "out"
  process = _start_coco(large, output_dir)
  deadline = time.monotonic() + 60
  while not list(tmp_path.glob(f".{output_dir.name}.partial-*/.{part}-*.json")):
    assert time.monotonic() < deadline
    assert process.poll() is None
    time.sleep(0.001)
  process.send_signal(stop)
  process.communicate()
  assert not output_dir.exists()
  notes = list(tmp_path.glob(f".{output_dir.name}.partial-*/.*.tfrecord.json"))
  assert len(notes) > 8 or part == "train"
  finished = [path.with_name(path.name[1 : -len(".json")]) for path in notes]
  before = {path.name: path.stat().st_ino for path in finished}
  info, is_new = _prepare(large, output_dir, **options)
  assert is_new
  assert {path.name: (output_dir / path.name).stat().st_ino for path in finished} == before
  assert info.parts == undisturbed.parts
  assert info.report == undisturbed.report
  for path in (tmp_path / "undisturbed").iterdir():
    assert (output_dir / path.name).read_bytes() == path.read_bytes(), path.name
  assert {path.name for path in output_dir.iterdir()} == {
    path.name for path in (tmp_path / "undisturbed").iterdir()
  }


def test_what_another_dataset_has_left_is_not_gone_on_with(tmp_path, large):
  process = _start_coco(large, tmp_path / "out")
  while not list(tmp_path.glob(".out.partial-*/.train-*.json")):
    assert process.poll() is None
    time.sleep(0.001)
  process.kill()
  process.communicate()
  _prepare(large, tmp_path / "out", num_shards=8, seed=1)
  _prepare(large, tmp_path / "other", num_shards=8, seed=1)
  assert not list(tmp_path.glob(".out*"))
  for path in (tmp_path / "other").iterdir():
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_two_runs_at_once_end_with_one_dataset(tmp_path):
  output_dir = tmp_path / "out"
  process = _start(output_dir)
  _wait_until_it_draws(output_dir)
  process.send_signal(signal.SIGSTOP)
  info, is_new = _prepare(ShapesConfig(60, 96), output_dir)
  assert is_new
  # The other run's directory is in use, so it was left alone.
  assert len(list(tmp_path.iterdir())) == 2
  process.send_signal(signal.SIGCONT)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0, output
  assert DatasetInfo.load(output_dir) == info
  assert list(tmp_path.iterdir()) == [output_dir]


@pytest.mark.parametrize(
  "values",
  [
    {"validation_fraction": 1.0},
    {"holdout_fraction": -0.1},
    {"num_shards": 0},
    {"max_image_pixels": 0},
    {"num_threads": -1},
    {"seed": -1},
  ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, values):
  with pytest.raises(UserError, match=f"^{next(iter(values))} must be at least"):
    prepare_dataset(tmp_path / "out", shapes=ShapesConfig(), **values)
  assert not list(tmp_path.iterdir())


def test_the_result_says_what_was_made_of_the_input(tmp_path, plain, capsys):
  content = json.loads(plain.annotations.read_text())
  content["annotations"][0]["bbox"] = [55, 35, 20, 20]
  plain.annotations.write_text(json.dumps(content))
  arguments = (str(tmp_path / "out"), str(plain.annotations), str(plain.images_dir))
  prepared = prepare_dataset(*arguments)
  clipped = "annotation 0 of 1.png: [55, 35, 20, 20] in 60x40"
  assert prepared == PreparedDataset(
    folder=tmp_path / "out",
    num_images={"train": 6, "holdout": 2, "val": 2},
    classes=("four", "nine"),
    report={"boxes_clipped": {"count": 1, "examples": [clipped]}},
    is_new=True,
  )
  assert "10/10" in capsys.readouterr().err
  assert prepare_dataset(*arguments) == dataclasses.replace(prepared, is_new=False)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
  """Model Garden's writer keeps every example: 282 MB of data take 332 MB of memory."""
  from official_nasfpn.data.label_map import Category, LabelMap
  from official_nasfpn.data.report import Report
  from official_nasfpn.data.tfrecord_writer import write_part

  _picture(tmp_path / "large.png", 1000, 700)
  size = (tmp_path / "large.png").stat().st_size
  items = [(AnnotatedImage(i, "large.png", None, ()), tmp_path / "large.png") for i in range(60)]
  label_map = LabelMap((Category(1, "a"),))

  resident = []

  def measure(_):
    resident.append(_resident_bytes())

  part = write_part("train", items, label_map, tmp_path, 2, 2, Report(), advance=measure)
  assert sum(shard.bytes for shard in part.shards) > 60 * size > 120_000_000
  # The allocator keeps some of what the first images took; the later ones find it there.
  assert max(resident[30:]) - max(resident[:30]) < 10 * size


def _resident_bytes():
  num_pages = int(Path("/proc/self/statm").read_text().split()[1])
  return num_pages * resource.getpagesize()
