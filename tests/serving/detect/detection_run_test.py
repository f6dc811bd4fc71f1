"""From image files to annotated pictures and COCO results, with an export."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.detections import split_batch
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.detection import InputImage, detect_files
from official_nasfpn.serving.detect.detection_folder import DetectionRequest
from official_nasfpn.serving.detect.detection_run import picture_names, run_detection
from official_nasfpn.serving.detect.image_files import find_files
from tests.decompression_bomb import decompression_bomb

# Around the scores of an untrained detector: some of its boxes are drawn.
THRESHOLD = 0.0102


@pytest.fixture
def images(tmp_path, photo):
  """Returns a folder of good images and two broken ones; two files have the same name.

  All have the network's aspect ratio, since an untrained detector also detects in the padding.
  """
  folder = tmp_path / "images"
  (folder / "more").mkdir(parents=True)
  photo(200, 100).save(folder / "a.jpg")
  photo(80, 40, seed=1).convert("L").save(folder / "b.png")
  photo(120, 60, seed=2).convert("CMYK").save(folder / "more" / "a.jpg")
  photo(90, 45, seed=3).save(folder / "c.webp")
  (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
  (folder / "empty.png").touch()
  return folder


@pytest.fixture
def request_(export_dir, images):
  return DetectionRequest(export_dir, tuple(find_files([str(images)])), score_threshold=THRESHOLD)


def read(path):
  return json.loads(path.read_text())


def difference(one, other):
  """Returns the mean difference between two pictures, in grey levels."""
  return np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other, float)).mean()


def test_pictures_and_results_of_all_whole_images(request_, images, tmp_path, saved_detector):
  whole = [images / name for name in ("a.jpg", "b.png", "c.webp", "more/a.jpg")]
  scores = np.concatenate([found.scores for found in saved_detector.detect(whole)])
  # All but the few weakest are drawn.
  request_ = dataclasses.replace(request_, score_threshold=float(np.sort(scores)[5]))
  output_dir = tmp_path / "out"
  summary = run_detection(request_, output_dir, batch_size=3)
  assert (summary.num_images, summary.is_new, summary.evaluation) == (4, True, None)
  assert [file.split("/")[-1] for file, _ in summary.skipped] == ["broken.jpg", "empty.png"]

  listed = read(output_dir / "images.json")["images"]
  assert {row["file"]: row["picture"] for row in listed} == {
    str(images / "a.jpg"): "a.jpg",
    str(images / "b.png"): "b.png",
    str(images / "c.webp"): "c.png",
    str(images / "more" / "a.jpg"): "a-2.jpg",
  }
  for row in listed:
    detections = saved_detector.detect(row["file"])
    expected = detections.draw(row["file"], request_.score_threshold)
    drawn = difference(expected, detections.draw(row["file"], min_score=1.1))
    assert drawn > 5
    with Image.open(output_dir / row["picture"]) as picture:
      assert picture.size == expected.size
      # JPEG loses detail at edges, and in a batch a score may be rounded differently.
      assert difference(picture, expected) < 0.5 * drawn

  results = read(output_dir / "detections.json")
  assert {row["image_id"] for row in results} == {row["id"] for row in listed}
  assert {row["category_id"] for row in results} <= {4, 9, 70}
  # All detections, including those too weak to be drawn.
  assert min(row["score"] for row in results) < request_.score_threshold
  assert summary.num_drawn > 0
  assert summary.num_drawn == sum(row["score"] >= request_.score_threshold for row in results)


def test_a_broken_image_does_not_change_its_batch(saved_detector, images):
  def detect(paths):
    inputs = [InputImage(path, number) for number, path in enumerate(paths)]
    broken = []
    found = detect_files(
      lambda encoded: split_batch(saved_detector(encoded)),
      inputs,
      8,
      lambda image, _: broken.append(image.path.name),
    )
    return [image.detections.scores for image in found], broken

  good = [images / "a.jpg", images / "b.png"]
  expected, _ = detect(good)
  found, broken = detect([images / "empty.png", good[0], images / "broken.jpg", good[1]])
  assert broken == ["empty.png", "broken.jpg"]
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_image_of_16_bits_is_drawn_as_it_was_detected_in(export_dir, photo, tmp_path):
  grey = photo(200, 100).convert("L")
  grey.save(tmp_path / "of_8_bits.png")
  deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
  deep.save(tmp_path / "of_16_bits.png")
  files = tuple(tmp_path / f"of_{bits}_bits.png" for bits in (8, 16))
  run_detection(DetectionRequest(export_dir, files, THRESHOLD), tmp_path / "out")
  of_8, of_16 = (Image.open(tmp_path / "out" / file.name) for file in files)
  np.testing.assert_array_equal(of_16, of_8)
  # Not the white picture that both would be without a scale.
  assert np.asarray(of_16).mean() < 200


def test_a_picture_that_is_too_wide_for_jpeg_is_made_smaller_and_said(
  export_dir, images, tmp_path, capsys
):
  """One image stands for several side by side, which a JPEG of 9,400 pixels can become."""
  Image.new("RGB", (66_000, 300)).save(images / "wide.jpg", "PNG")
  files = (images / "a.jpg", images / "wide.jpg")
  run_detection(DetectionRequest(export_dir, files, score_threshold=1.0), tmp_path / "out")
  written = read(tmp_path / "out" / "images.json")["images"]
  assert [row.get("shrunk_from") for row in written] == [None, [66_000, 300]]
  with Image.open(tmp_path / "out" / "wide.jpg") as picture:
    assert picture.size == (65_500, 298)
  assert "1 of the pictures were made smaller" in capsys.readouterr().err


def test_a_decompression_bomb_is_skipped_in_one_sentence(export_dir, images, tmp_path):
  (images / "bomb.png").write_bytes(decompression_bomb(60_000, 60_000))
  request = DetectionRequest(export_dir, (images / "bomb.png", images / "a.jpg"))
  summary = run_detection(request, tmp_path / "out")
  assert summary.num_images == 1
  reason = "it declares 60000 x 60000 pixels, and at most 268,435,456 are decoded"
  assert summary.skipped == ((str(images / "bomb.png"), reason),)


def test_a_link_to_nothing_is_skipped(export_dir, images, tmp_path):
  (images / "gone.jpg").symlink_to(images / "nothing.jpg")
  files = find_files([str(images / "[ag]*.jpg")])
  request = DetectionRequest(export_dir, tuple(files))
  summary = run_detection(request, tmp_path / "out")
  assert summary.num_images == 1
  reason = "cannot be read: No such file or directory"
  assert summary.skipped == ((str(images / "gone.jpg"), reason),)
  assert not run_detection(request, tmp_path / "out").is_new


def test_the_same_request_is_not_repeated_and_another_is_refused(request_, images, tmp_path):
  output_dir = tmp_path / "out"
  first = run_detection(request_, output_dir)
  before = (output_dir / "detections.json").stat().st_mtime_ns
  second = run_detection(request_, output_dir)
  assert not second.is_new
  assert (second.num_drawn, second.skipped) == (first.num_drawn, first.skipped)
  assert (output_dir / "detections.json").stat().st_mtime_ns == before

  (images / "b.png").write_bytes((images / "a.jpg").read_bytes())
  with pytest.raises(UserError, match=r"other detections \(images differ\)"):
    run_detection(request_, output_dir)
  with pytest.raises(UserError, match="holds files, but no detections"):
    run_detection(request_, images)


def test_an_interrupted_run_is_completed(request_, tmp_path):
  output_dir = tmp_path / "out"
  run_detection(request_, output_dir)
  expected = read(output_dir / "detections.json")
  (output_dir / "detections.json").unlink()
  (output_dir / "a.jpg").unlink()
  assert run_detection(request_, output_dir).is_new
  assert read(output_dir / "detections.json") == expected
  assert (output_dir / "a.jpg").is_file()


def test_without_a_single_whole_image_it_fails(export_dir, images, tmp_path):
  request = DetectionRequest(export_dir, (images / "broken.jpg", images / "empty.png"))
  with pytest.raises(UserError, match="None of the 2 files"):
    run_detection(request, tmp_path / "out")
  assert not (tmp_path / "out" / "detections.json").exists()


def test_a_full_disk_is_an_error_and_the_same_request_goes_on(request_, tmp_path, small_disk):
  with small_disk(20_000), pytest.raises(UserError, match=r"cannot be written: .*Make room"):
    run_detection(request_, tmp_path / "out")
  assert not (tmp_path / "out" / "detections.json").exists()
  assert run_detection(request_, tmp_path / "out").num_images == 4


def test_no_two_pictures_get_one_name(tmp_path):
  paths = [
    tmp_path / name for name in ("x.jpg", "y/x.JPG", "x.png", "y/x.tif", "x-2.jpg", "z/X.jpg")
  ]
  names = picture_names(paths)
  assert names[:3] == ["x.jpg", "x-2.jpg", "x.png"]
  assert len({name.lower() for name in names}) == len(paths)


def annotate(path, images, **changes):
  content = {
    "images": [{"id": 50 + i, "file_name": name} for i, name in enumerate(images)],
    "annotations": [],
    "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}, {"id": 70, "name": "cat"}],
    **changes,
  }
  path.write_text(json.dumps(content))
  return path


def with_annotations(request, path):
  return DetectionRequest(request.export_dir, request.images, request.score_threshold, path)


def test_annotations_give_ids_and_a_perfect_ap_to_their_own_boxes(request_, tmp_path):
  run_detection(request_, tmp_path / "out")
  listed = {row["id"]: row["file"] for row in read(tmp_path / "out" / "images.json")["images"]}
  # Detections serve as ground truth; areas are missing and all annotations have the same id.
  files = ["images/more/a.jpg", "b.png", "elsewhere.png"]
  truth = [
    {"id": 0, "image_id": 50 + index, "category_id": row["category_id"], "bbox": row["bbox"]}
    for row in read(tmp_path / "out" / "detections.json")
    for index, file in enumerate(files)
    if listed[row["image_id"]].endswith(file)
  ]
  annotations = annotate(tmp_path / "truth.json", files, annotations=truth)

  summary = run_detection(with_annotations(request_, annotations), tmp_path / "evaluated")
  assert summary.num_images == 2
  assert summary.evaluation.num_images == 2
  assert summary.evaluation.metrics["AP"] == pytest.approx(1.0)
  assert {row["image_id"] for row in read(tmp_path / "evaluated" / "detections.json")} == {50, 51}
  again = run_detection(with_annotations(request_, annotations), tmp_path / "evaluated")
  assert again.evaluation.table() == summary.evaluation.table()


def test_what_is_left_out_or_wrong_in_annotations_is_said_and_written_down(
  request_, images, tmp_path, capsys
):
  box = {"id": 1, "image_id": 50, "category_id": 9, "bbox": [500, 10, 20, 20]}
  annotations = annotate(tmp_path / "truth.json", ["b.png"], annotations=[box])
  run_detection(with_annotations(request_, annotations), tmp_path / "out")
  written = read(tmp_path / "out" / "images.json")["annotations"]
  others = ("a.jpg", "broken.jpg", "c.webp", "empty.png", "more/a.jpg")
  assert sorted(written["left_out"]) == [str(images / name) for name in others]
  example = "annotation 1 of b.png: [500, 10, 20, 20] in 80x40"
  assert written["report"]["boxes_outside"] == {"count": 1, "examples": [example]}
  said = capsys.readouterr().err
  assert f"       1 boxes outside the image: dropped  ({example})\n" in said
  assert said.count("5 of the 6 images are left out, because ") == 1


@pytest.mark.parametrize(
  ("files", "categories", "message"),
  [
    (["none.jpg"], None, "annotates none of the images; its first is 'none.jpg'"),
    (["a.jpg"], None, "are both 'a.jpg'"),
    (
      ["b.png"],
      [{"id": 4, "name": "wasp"}],
      "calls category 4 'wasp', the detector calls it 'ant'",
    ),
    (["b.png"], [{"id": 1, "name": "ant"}], "has none of the detector's category ids"),
  ],
)
def test_annotations_of_something_else_are_refused(request_, tmp_path, files, categories, message):
  changes = {"categories": categories} if categories else {}
  annotations = annotate(tmp_path / "truth.json", files, **changes)
  with pytest.raises(UserError, match=message):
    run_detection(with_annotations(request_, annotations), tmp_path / "out")


@pytest.fixture
def annotations(images, tmp_path):
  """Returns annotations with one box in one of the images."""
  path = tmp_path / "annotations.json"
  content = {
    "images": [{"id": 5, "file_name": "a.jpg", "width": 200, "height": 100}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 9, "bbox": [20, 10, 100, 60]}],
    "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}, {"id": 70, "name": "cat"}],
  }
  path.write_text(json.dumps(content))
  return path


def one_image(anytime_export_dir, images, **settings):
  return DetectionRequest(anytime_export_dir, (images / "a.jpg",), THRESHOLD, **settings)


def test_an_exit_and_a_budget_are_taken(anytime_export_dir, images, tmp_path):
  def scores(name, **settings):
    run_detection(one_image(anytime_export_dir, images, **settings), tmp_path / name)
    return [row["score"] for row in read(tmp_path / name / "detections.json")]

  first = scores("first", exit=1)
  assert first != scores("last")
  assert first == pytest.approx(scores("hurry", budget_ms=0.0), abs=1e-5)
  assert scores("last") == pytest.approx(scores("leisure", budget_ms=1e6), abs=1e-5)
  with pytest.raises(UserError, match="There is no exit 7"):
    scores("none", exit=7)


def test_a_budget_says_whether_it_is_met_and_which_exit_it_bought(
  anytime_export_dir, anytime_detector, images, tmp_path
):
  latency = anytime_detector.exit_latency
  hurry = dataclasses.replace(
    one_image(anytime_export_dir, images, budget_ms=0.5),
    images=(images / "a.jpg", images / "b.png"),
  )
  summary = run_detection(hurry, tmp_path / "hurry", batch_size=2)
  assert (summary.budget.is_met, summary.budget.exit, summary.budget.batch_size) == (False, 1, 2)
  assert summary.budget.expected_ms == pytest.approx(2 * latency[0].p90_ms)
  written = read(tmp_path / "hurry" / "images.json")
  assert written["budget"] == dataclasses.asdict(summary.budget)
  assert [row["exit"] for row in written["images"]] == [1, 1]
  assert run_detection(hurry, tmp_path / "hurry", batch_size=2).budget == summary.budget
  # Images share the budget of their batch: other batches would mean other budgets.
  with pytest.raises(UserError, match=r"other detections \(batch_size differ\)"):
    run_detection(hurry, tmp_path / "hurry", batch_size=1)

  leisure = dataclasses.replace(hurry, budget_ms=1e6)
  summary = run_detection(leisure, tmp_path / "leisure", batch_size=8)
  assert (summary.budget.is_met, summary.budget.exit, summary.budget.batch_size) == (True, 3, 2)
  written = read(tmp_path / "leisure" / "images.json")
  assert [row["exit"] for row in written["images"]] == [3, 3]
  plain = run_detection(one_image(anytime_export_dir, images), tmp_path / "plain")
  assert plain.budget is None
  assert "budget" not in read(tmp_path / "plain" / "images.json")


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"budget_ms": 20.0}, "has one exit only, so a budget has nothing to choose from"),
    ({"exit": 1}, "There is no exit 1: .* has one exit only"),
  ],
)
def test_a_choice_that_is_not_there_claims_no_folder(
  export_dir, images, tmp_path, settings, message
):
  with pytest.raises(UserError, match=message):
    run_detection(one_image(export_dir, images, **settings), tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_exits_and_annotations_are_drawn_side_by_side(
  anytime_export_dir, anytime_detector, images, annotations, tmp_path
):
  request = one_image(
    anytime_export_dir, images, annotations=annotations, all_exits=True, compare=True
  )
  run_detection(request, tmp_path / "out")
  file, gap = images / "a.jpg", 12
  exits = [
    anytime_detector.detect(file, exit_number=number).draw(file, THRESHOLD) for number in (1, 2, 3)
  ]
  width, height = exits[0].size
  with Image.open(tmp_path / "out" / "a.jpg") as wide:
    # Panels of the annotations and of three exits, each in its place.
    assert wide.width == gap + 4 * (width + gap)
    for position, expected in enumerate(exits, start=1):
      left, bottom = gap + position * (width + gap), wide.height - gap
      panel = wide.crop((left, bottom - height, left + width, bottom))
      differences = [difference(panel, picture) for picture in exits]
      assert differences.index(min(differences)) == position - 1
      assert difference(panel, expected) < 0.3 * max(differences)
    # The panel of the annotations shows only the box of the bee.
    colors = wide.convert("RGB").crop((0, 0, width, wide.height)).getcolors(1 << 24)
  near = sum(count for count, rgb in colors if np.abs(np.subtract(rgb, (44, 160, 44))).max() < 25)
  assert near > 300


def test_what_cannot_be_drawn_is_refused(export_dir, images, tmp_path):
  with pytest.raises(UserError, match="Nothing to compare with"):
    run_detection(one_image(export_dir, images, compare=True), tmp_path / "out")
  with pytest.raises(UserError, match="one exit only"):
    run_detection(one_image(export_dir, images, all_exits=True), tmp_path / "out")
