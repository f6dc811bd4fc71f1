"""Videos in `detect` get the same detections as their frames do as images."""

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.detections import Detections
from official_nasfpn.data.drawing import draw_detections
from official_nasfpn.data.image_encoding import decoded_picture
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.serving.detect.detection_folder import DetectionRequest
from official_nasfpn.serving.detect.detection_run import picture_names, run_detection
from official_nasfpn.serving.detect.image_files import find_files
from official_nasfpn.serving.detect.video_detection import detect_video
from official_nasfpn.serving.detect.video_files import VideoReader

# Around the scores of an untrained detector: some of its boxes are drawn.
THRESHOLD = 0.0102


@pytest.fixture
def folder(tmp_path, make_video, photo):
  """Returns a folder of two good videos with the same name, two broken ones, and an image."""
  folder = tmp_path / "videos"
  (folder / "more").mkdir(parents=True)
  make_video(folder / "a.mp4", 7, fps=12.5)
  make_video(folder / "more" / "a.avi", 5, codec="MJPG")
  data = (folder / "more" / "a.avi").read_bytes()
  (folder / "broken.avi").write_bytes(data[: len(data) // 2])
  (folder / "text.MOV").write_text("no video")
  photo(200, 100).save(folder / "b.png")
  return folder


@pytest.fixture
def annotations(tmp_path):
  """Returns annotations with one box in the image."""
  path = tmp_path / "annotations.json"
  content = {
    "images": [{"id": 5, "file_name": "b.png", "width": 200, "height": 100}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 9, "bbox": [20, 10, 100, 60]}],
    "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}, {"id": 70, "name": "cat"}],
  }
  path.write_text(json.dumps(content))
  return path


def request_of(export_dir, *paths, **settings):
  return DetectionRequest(
    export_dir, tuple(find_files(list(map(str, paths)))), THRESHOLD, **settings
  )


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def decoded(path):
  """Returns the frame rate and the frames of a video."""
  with VideoReader(path) as reader:
    frames = [Image.open(io.BytesIO(encoded.data)) for _, encoded in reader.frames()]
    return reader.fps, frames


def test_videos_and_images_of_a_folder(export_dir, folder, tmp_path):
  out = tmp_path / "out"
  summary = run_detection(request_of(export_dir, folder), out, batch_size=3)
  assert (summary.num_images, summary.num_videos, summary.num_frames) == (1, 2, 12)
  assert [(file.split("/")[-1], reason) for file, reason in summary.skipped] == [
    ("broken.avi", "breaks off after 2 of 5 frames"),
    ("text.MOV", "not a video that OpenCV can read"),
  ]
  assert {path.name for path in out.iterdir()} == {
    *("a.mp4", "a.jsonl", "a-2.mp4", "a-2.jsonl", "b.png"),
    *("request.json", "images.json", "detections.json"),
  }
  listed = json.loads((out / "images.json").read_text())["videos"]
  assert [(row["picture"], row["results"]) for row in listed] == [
    ("a.mp4", "a.jsonl"),
    ("a-2.mp4", "a-2.jsonl"),
  ]
  found = lines(out / "a.jsonl")
  assert [row["frame"] for row in found] == list(range(7))
  assert [row["seconds"] for row in found] == pytest.approx([i / 12.5 for i in range(7)])
  drawn = sum(
    detection["score"] >= THRESHOLD
    for name in ("a.jsonl", "a-2.jsonl")
    for row in lines(out / name)
    for detection in row["detections"]
  )
  images = json.loads((out / "detections.json").read_text())
  assert drawn > 0
  assert summary.num_drawn == drawn + sum(row["score"] >= THRESHOLD for row in images)


def difference(one, other):
  return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


def test_a_frame_gives_what_it_gives_as_an_image(export_dir, folder, tmp_path, saved_detector):
  run_detection(request_of(export_dir, folder / "a.mp4"), tmp_path / "video", batch_size=3)
  fps, frames = decoded(folder / "a.mp4")
  (tmp_path / "frames").mkdir()
  for number, frame in enumerate(frames):
    frame.save(tmp_path / "frames" / f"{number}.png")
  run_detection(request_of(export_dir, tmp_path / "frames"), tmp_path / "images", batch_size=3)

  rows = json.loads((tmp_path / "images" / "detections.json").read_text())
  found = lines(tmp_path / "video" / "a.jsonl")
  for line in found:
    expected = [row for row in rows if row["image_id"] == line["frame"] + 1]
    for one, other in zip(line["detections"], expected, strict=True):
      assert one["category_id"] == other["category_id"]
      assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-2)
      assert one["score"] == pytest.approx(other["score"], abs=1e-5)
  # The picture moves, so the detections do, too.
  assert found[0]["detections"] != found[-1]["detections"]

  annotated_fps, annotated = decoded(tmp_path / "video" / "a.mp4")
  assert annotated_fps == fps
  label_map = saved_detector.label_map
  for line, picture, frame in zip(found, annotated, frames, strict=True):
    rows = line["detections"]
    classes = [label_map.index_of(row["category_id"]) for row in rows]
    detections = Detections(
      boxes=np.array([box_corners(row["bbox"]) for row in rows]),
      scores=np.array([row["score"] for row in rows]),
      classes=np.array(classes),
      category_ids=np.array([row["category_id"] for row in rows]),
      labels=tuple(label_map.name(index) for index in classes),
    )
    expected = draw_detections(frame, detections, THRESHOLD, min_side=1)
    assert picture.size == frame.size
    assert difference(expected, frame) > 10
    # The codec loses detail at the edges of boxes and letters.
    assert difference(picture, expected) < 0.5 * difference(expected, frame)


def box_corners(box):
  x, y, width, height = box
  return y, x, y + height, x + width


def test_classes_have_the_ids_of_the_dataset_where_these_are_text(make_video, tmp_path):
  path, _ = make_video(tmp_path / "a.mp4", 2)
  label_map = LabelMap((Category(1, "ant", "n01"), Category(2, "bee", "n02")))
  found = Detections(
    boxes=np.array([[10.0, 20.0, 30.0, 40.0]]),
    scores=np.array([0.5]),
    classes=np.array([1]),
    category_ids=np.array([2]),
    labels=("bee",),
  )
  detect_video(
    path,
    lambda encoded: [found] * len(encoded),
    label_map,
    lambda image: decoded_picture(image.encoded.data),
    batch_size=8,
    picture=tmp_path / "out.mp4",
  )
  expected = {"category_id": "n02", "bbox": [20.0, 10.0, 20.0, 20.0], "score": 0.5}
  assert [line["detections"] for line in lines(tmp_path / "out.jsonl")] == [[expected]] * 2


def test_the_same_request_finds_what_is_done(export_dir, folder, tmp_path):
  request, out = request_of(export_dir, folder), tmp_path / "out"
  first = run_detection(request, out)
  before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
  again = run_detection(request, out)
  assert again == dataclasses.replace(first, is_new=False)
  assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before

  # As if the run had been killed in its second video.
  expected = (out / "a-2.jsonl").read_text()
  (out / "detections.json").unlink()
  (out / "images.json").unlink()
  (out / "a-2.jsonl").unlink()
  (out / ".a-2.jsonl").write_text('{"frame": 0')
  (out / ".a-2.mp4").write_bytes(b"half")
  assert run_detection(request, out) == first
  assert (out / "a-2.jsonl").read_text() == expected
  assert (out / "a.mp4").stat().st_mtime_ns == before["a.mp4"]
  assert {path.name for path in out.iterdir()} == set(before)


def test_exits_of_a_video_are_drawn_side_by_side(anytime_export_dir, folder, tmp_path):
  def run(name, **settings):
    run_detection(request_of(anytime_export_dir, folder / "a.mp4", **settings), tmp_path / name)
    return lines(tmp_path / name / "a.jsonl")

  last, first = run("all", all_exits=True), run("first", exit=1)
  assert [len(line["detections"]) for line in last] != [0] * 7
  assert first[0]["detections"] != last[0]["detections"]
  assert first[0]["detections"] == run("hurry", budget_ms=0.0)[0]["detections"]
  _, (wide, *_) = decoded(tmp_path / "all" / "a.mp4")
  _, (plain, *_) = decoded(tmp_path / "first" / "a.mp4")
  assert 3 * plain.width < wide.width < 3.4 * plain.width


def test_videos_have_no_annotations(export_dir, folder, annotations, tmp_path, capsys):
  settings = {"annotations": annotations, "compare": True}
  with pytest.raises(UserError, match="are for images, and there are videos only"):
    run_detection(request_of(export_dir, folder / "a.mp4", **settings), tmp_path / "out")
  # Next to images they are skipped, like images without annotations.
  summary = run_detection(request_of(export_dir, folder, **settings), tmp_path / "out")
  assert (summary.num_images, summary.num_videos, summary.skipped) == (1, 0, ())
  assert (
    "4 videos are left out, because --annotations and --compare are for images"
    in capsys.readouterr().err
  )
  written = json.loads((tmp_path / "out" / "images.json").read_text())["annotations"]
  assert len(written["left_out"]) == 4


def test_without_a_single_readable_file_it_fails(export_dir, folder, tmp_path):
  request = request_of(export_dir, folder / "broken.avi", folder / "text.MOV")
  with pytest.raises(UserError, match="None of the 2 files is an image or a video"):
    run_detection(request, tmp_path / "out")
  assert [path.name for path in (tmp_path / "out").iterdir()] == ["request.json"]


def test_a_video_of_which_none_can_be_made_is_skipped_and_the_others_are_done(
  export_dir, folder, make_video, tmp_path
):
  narrow, _ = make_video(tmp_path / "narrow.avi", 3, codec="MJPG", size=(1, 48))
  summary = run_detection(request_of(export_dir, narrow, folder / "a.mp4"), tmp_path / "out")
  assert (summary.num_videos, summary.num_frames) == (1, 7)
  reason = "no MPEG-4 video can be made of 0x48 pixels and 10 frames per second"
  assert summary.skipped == ((str(narrow), reason),)
  with pytest.raises(UserError, match=f"None of the 1 files .*narrow.avi: {reason}"):
    run_detection(request_of(export_dir, narrow), tmp_path / "none")


def test_a_full_disk_is_an_error_and_the_same_request_goes_on(
  export_dir, folder, tmp_path, small_disk
):
  request, out = request_of(export_dir, folder / "a.mp4"), tmp_path / "out"
  with small_disk(10_000), pytest.raises(UserError, match="cannot be written"):
    run_detection(request, out)
  assert [path.name for path in out.iterdir()] == ["request.json"]
  assert run_detection(request, out).num_frames == 7


def test_the_program_says_what_it_did(export_dir, folder, tmp_path, run_program):
  arguments = ["--export_dir", export_dir, "--output_dir", tmp_path / "out"]
  files = [folder / name for name in ("a.mp4", "text.MOV", "broken.avi")]
  process = run_program("detect", *arguments, *files)
  assert process.returncode == 0, process.stderr
  assert process.stdout.startswith("0 images, 1 videos of 7 frames, ")
  assert "text.MOV: not a video that OpenCV can read" in process.stdout
  assert "broken.avi: breaks off after 2 of 5 frames" in process.stdout
  assert "detect a.mp4: 100%" in process.stderr
  # FFmpeg's own messages about these files start with the codec in brackets.
  assert "[m" not in process.stderr


def test_pictures_of_videos_are_told_apart_from_each_other():
  paths = [Path(name) for name in ("x.mp4", "y/x.avi", "x.png", "x-2.mov")]
  assert picture_names(paths) == ["x.mp4", "x-2.mp4", "x.png", "x-2-2.mp4"]
