"""The report of a run as a file: what it says, of which runs, and that nothing in it is loaded."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.made_detections import make_detections
from official_nasfpn.data.label_map import Category, LabelMap
from official_nasfpn.errors import UserError
from official_nasfpn.printable import printable
from official_nasfpn.reporting.event_files import read_scalars
from official_nasfpn.training.analysis.boxes import (
  EvaluatedWith,
  boxes_of_coco,
  load_boxes,
  save_boxes,
)
from official_nasfpn.training.coco_evaluation import evaluate_coco_results
from official_nasfpn.training.report import pictures
from official_nasfpn.training.report.coco_tables import coco_tables
from official_nasfpn.training.report.html.charts import learning_charts
from official_nasfpn.training.report.pictures import ImageScore, choose
from official_nasfpn.training.report.run_report import newest_step, write_run_report
from tests.reporting.parsed_page import parsed, tile
from tests.training.report.runs import (
  CONTROL,
  FILE,
  QUOTED,
  SCRIPT,
  STEP,
  hostile_data,
  made_run,
  new_run,
  with_max_detections,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, shapes_data):
  """Returns the folder of an evaluated run, with its report."""
  folder = made_run(tmp_path_factory.mktemp("runs") / "shapes", shapes_data)
  write_run_report(folder.path)
  return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
  """Returns likewise the folder of one whose names are meant to do harm."""
  folder = tmp_path_factory.mktemp("hostile")
  run = made_run(folder / "run & <b>bold</b>", hostile_data(folder))
  write_run_report(run.path)
  return run


def report_of(folder):
  return parsed(folder.path / "report.html")


def write_again(folder, boxes, **settings):
  """Puts other boxes into a run folder and writes its report; returns that, parsed."""
  made_with = load_boxes(folder.boxes_file)[1]
  save_boxes(folder.boxes_file, boxes, made_with)
  write_run_report(folder.path, **settings)
  return report_of(folder)


def test_it_says_what_a_person_asks_first(evaluated):
  texts = report_of(evaluated).texts
  boxes, _ = load_boxes(evaluated.boxes_file)
  content = json.loads(Path(load_boxes(evaluated.boxes_file)[1].data_dir, "val.json").read_text())
  assert evaluated.path.name in texts
  assert f"evaluated at step {STEP}" in texts
  tables = coco_tables(boxes)
  for name in ("AP", "AP50", "AP75"):
    assert tile(texts, name) == f"{tables.metrics[name]:.3f}"
  assert tile(texts, "annotated boxes") == str(len(content["annotations"]))
  assert tile(texts, "detections") == str(len(boxes.scores))
  (said,) = (text for text in texts if text.startswith("AP is 0"))
  assert "on 10 images of the part val" in said
  assert "annotated boxes are found" in said
  assert f"nasfpn export --model_dir {evaluated.path} --output_dir" in " ".join(texts)
  for name in ("circle", "square", "triangle", "cross"):
    assert name in texts
  for heading in (
    "Classes",
    "Precision, recall and F1",
    "Errors by kind",
    "Confusion matrix",
    "AP over size",
    "Learning curves",
    "Images",
    "Recipe",
    "Loss over train steps",
    "AP over train steps",
    "Learning rate over train steps",
  ):
    assert heading in texts
  assert any("at IoU 0.5." in text and "from a score of 0." in text for text in texts)


def test_ap_of_the_tables_is_that_of_the_evaluation():
  content, results = make_detections(5, 20, 4, 60)
  # Not in the order of their ids.
  labels = LabelMap(tuple(Category(row["id"], row["name"]) for row in content["categories"]))
  assert [c.id for c in labels.categories] != sorted(c.id for c in labels.categories)
  expected = evaluate_coco_results(content, results, LabelMap(tuple(sorted(
    labels.categories, key=lambda category: category.id
  ))))  # fmt: skip
  tables = coco_tables(boxes_of_coco(content, results, labels))
  for name in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
    assert tables.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-12)
  assert tables.metrics["AR"] == pytest.approx(expected.metrics["AR100"], abs=1e-12)
  for category, row in zip(labels.categories, tables.classes, strict=True):
    assert row["AP"] == pytest.approx(expected.class_ap[category.name], abs=1e-12)
  # COCO's small objects are the first two rows together, its large ones the last two.
  assert [row.low for row in tables.sizes] == [0, 16, 32, 64, 96, 192]


def test_nothing_in_it_is_loaded_from_elsewhere_and_no_script_runs(evaluated):
  text = (evaluated.path / "report.html").read_text()
  for tag, attributes in report_of(evaluated).tags:
    assert tag not in ("link", "iframe", "object", "embed", "base", "script", "a"), tag
    assert not {"srcset", "data", "action", "background", "href"} & attributes.keys(), tag
    assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
  assert re.findall(r"https?:", text) == []
  assert "url(" not in text
  assert "default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;; img-src data:" in text


def test_names_are_never_markup_and_what_cannot_be_shown_is_not(hostile):
  report = report_of(hostile)
  assert SCRIPT in report.texts
  assert QUOTED in report.texts
  assert "line\\x07\\x1b[31m" in " ".join(report.texts)
  assert any(text.endswith(FILE) for text in report.texts)
  assert hostile.path.name in report.texts
  assert {tag for tag, _ in report.tags} & {"script", "b"} == set()
  for tag, attributes in report.tags:
    assert not any(name.startswith("on") for name in attributes)
    assert tag != "img" or attributes["src"].startswith("data:")
  text = (hostile.path / "report.html").read_text()
  assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
  # Their pictures are drawn, with the names in them.
  assert text.count("data:image/jpeg") >= 2


def test_what_is_printable_stays():
  assert printable("Zellen äöü, 細胞 \U0001f52c\n\ttwo lines") == (
    "Zellen äöü, 細胞 \U0001f52c\n\ttwo lines"
  )
  assert printable("\x00\ud800") == r"\x00\ud800"
  assert CONTROL not in printable(CONTROL)


def test_worst_and_best_images_are_chosen_by_their_errors():
  scores = [
    ImageScore(0, num_right=5, num_wrong=0, num_lost=0, f1=1.0),
    ImageScore(1, num_right=1, num_wrong=9, num_lost=0, f1=0.2),
    ImageScore(2, num_right=0, num_wrong=5, num_lost=5, f1=0.0),
    ImageScore(3, num_right=7, num_wrong=0, num_lost=0, f1=1.0),
    ImageScore(4, num_right=0, num_wrong=0, num_lost=0, f1=None),
  ]
  worst, best = choose(scores)
  assert [score.image for score in worst] == [2, 1]
  assert [score.image for score in best] == [3, 0]


def test_the_page_has_as_many_pictures_as_it_has_room_for(evaluated, tmp_path, monkeypatch):
  size = (evaluated.path / "report.html").stat().st_size
  assert size < 5_000_000
  shown = sum(tag == "img" for tag, _ in report_of(evaluated).tags) // 2
  assert any(text.startswith(f"{shown} of 10 images: ") for text in report_of(evaluated).texts)
  assert shown > 2
  monkeypatch.setattr(pictures, "_BUDGET", size // 3)
  path = write_run_report(evaluated.path, tmp_path / "small.html")
  report = parsed(path)
  fewer = sum(tag == "img" for tag, _ in report.tags) // 2
  assert 0 < fewer < shown
  assert any("more would have made the page too large" in text for text in report.texts)
  # Some of both kinds.
  assert {"With the most errors", "Best"} <= {*report.texts} or fewer == 1


def test_without_its_data_there_are_all_but_the_pictures(evaluated, shapes_data, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, made_with = load_boxes(folder.boxes_file)
  gone = EvaluatedWith(**{**vars(made_with), "data_dir": str(tmp_path / "gone")})
  save_boxes(folder.boxes_file, boxes, gone)
  write_run_report(folder.path)
  report = report_of(folder)
  assert not any(tag == "img" for tag, _ in report.tags)
  assert any("--data_dir, which says where it is now" in text for text in report.texts)
  assert tile(report.texts, "AP") == tile(report_of(evaluated).texts, "AP")

  write_run_report(folder.path, data_dir=shapes_data)
  assert any(tag == "img" for tag, _ in report_of(folder).tags)
  with pytest.raises(UserError, match="holds no prepared dataset"):
    write_run_report(folder.path, data_dir=tmp_path)


def test_data_of_other_classes_gives_no_pictures(evaluated, hostile, tmp_path):
  other = load_boxes(hostile.boxes_file)[1].data_dir
  report = parsed(write_run_report(evaluated.path, tmp_path / "report.html", data_dir=other))
  assert any("has other classes" in text for text in report.texts)
  assert not any(tag == "img" for tag, _ in report.tags)


def test_a_run_that_was_not_evaluated_and_has_no_data_shows_its_curves(shapes_data, tmp_path):
  data = tmp_path / "data"
  shutil.copytree(shapes_data, data)
  folder = new_run(tmp_path / "run", data)
  shutil.rmtree(data)
  # As version 0.1 wrote it.
  evaluation = json.loads(
    evaluate_coco_results(
      {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cell"}]},
      [],
      LabelMap((Category(1, "cell"),)),
    ).to_json()
  )
  evaluation["metrics"]["AP"] = 0.125
  for name in ("analysis", "num_uncounted", "uncut_metrics"):
    del evaluation[name]
  folder.evaluation_file.write_text(json.dumps(evaluation))
  write_run_report(folder.path)
  texts = report_of(folder).texts
  assert any("give --data_dir the folder that it is in now" in text for text in texts)
  assert tile(texts, "AP") == "0.125"
  assert "Learning curves" in texts
  assert "Confusion matrix" not in texts
  assert any(text.startswith("nasfpn train --model_dir") for text in texts)


def test_a_run_without_a_checkpoint(shapes_data, tmp_path):
  folder = new_run(tmp_path / "run", shapes_data)
  shutil.rmtree(folder.checkpoints)
  write_run_report(folder.path)
  texts = report_of(folder).texts
  assert "This run has no checkpoint yet, so there is nothing to evaluate." in texts
  assert "no checkpoint yet" in texts


def test_an_older_checkpoint_is_said(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  (folder.checkpoints / f"ckpt-{STEP + 50}.index").touch()
  assert newest_step(folder.checkpoints) == STEP + 50
  write_run_report(folder.path)
  texts = " ".join(report_of(folder).texts)
  assert f"another checkpoint than an export takes. Evaluate the one of step {STEP + 50}" in texts


def test_best_weights_that_are_not_the_newest_need_no_evaluation(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  (folder.checkpoints / f"ckpt-{STEP + 50}.index").touch()
  folder.best.mkdir()
  (folder.best / f"ckpt-{STEP}.index").touch()
  write_run_report(folder.path)
  texts = report_of(folder).texts
  assert f"newest checkpoint: step {STEP + 50}" in texts
  assert f"best weights: step {STEP}" in texts
  assert "nasfpn export --model_dir" in " ".join(texts)
  assert "--mode evaluate" not in " ".join(texts)


def test_what_an_earlier_evaluation_noted_is_not_said_of_a_later_one(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, _ = load_boxes(folder.boxes_file)
  content = json.loads(Path(load_boxes(folder.boxes_file)[1].data_dir, "val.json").read_text())
  earlier = evaluate_coco_results(content, [], boxes.label_map)
  assert earlier.notes
  for step, is_said in ((STEP - 50, False), (STEP, True)):
    text = dataclasses.replace(earlier, step=step, compute_dtype=f"at {step}").to_json()
    folder.evaluation_file.write_text(text)
    write_run_report(folder.path)
    assert (f"at {step}" in report_of(folder).texts) == is_said
  folder.best.mkdir()
  folder.best_evaluation_file.write_text(
    dataclasses.replace(earlier, step=STEP, compute_dtype="at the best").to_json()
  )
  folder.evaluation_file.unlink()
  write_run_report(folder.path)
  assert "at the best" in report_of(folder).texts


def test_a_threshold_near_an_end_is_shown_as_what_it_is(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, _ = load_boxes(folder.boxes_file)
  report = write_again(folder, dataclasses.replace(boxes, scores=0.9950 + boxes.scores / 1000))
  (command,) = [text for text in report.texts if "--score_threshold" in text]
  threshold = float(command.partition("--score_threshold ")[2])
  assert 0.995 < threshold < 0.996


def test_a_loss_that_begins_high_does_not_flatten_the_rest():
  steps = np.arange(100)
  curves = {"total_loss": (steps, np.r_[200.0, 90.0, np.linspace(2, 1, 98)])}
  (chart,) = learning_charts(curves, {})
  assert chart.y_label == "loss, cut off where it began"
  assert max(float(text) for _, text in chart.y_ticks) < 3
  assert "total 1" in chart.description


def test_flipped_bits_of_evaluated_boxes_are_a_sentence(evaluated, tmp_path):
  data = bytearray(evaluated.boxes_file.read_bytes())
  path = tmp_path / "evaluated_boxes.npz"
  rng = np.random.default_rng(0)
  num_refused = 0
  for _ in range(400):
    place, bit = int(rng.integers(len(data))), 1 << int(rng.integers(8))
    data[place] ^= bit
    path.write_bytes(data)
    data[place] ^= bit
    try:
      load_boxes(path)
    except UserError:
      num_refused += 1
  assert num_refused > 200


@pytest.mark.parametrize("kept", ["no detections", "no boxes", "neither"])
def test_where_there_is_nothing_the_page_says_so(evaluated, tmp_path, kept):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, made_with = load_boxes(folder.boxes_file)
  content = json.loads(Path(made_with.data_dir, "val.json").read_text())
  results = [] if kept != "no boxes" else [
    {"image_id": content["images"][0]["id"], "category_id": 3, "bbox": [1, 1, 9, 9], "score": 0.5}
  ]  # fmt: skip
  if kept != "no detections":
    content["annotations"] = []
  report = write_again(folder, boxes_of_coco(content, results, boxes.label_map))
  said = "nothing can be measured" if kept != "no detections" else "Nothing was detected at all"
  assert any(said in text for text in report.texts)
  assert "None" not in " ".join(report.texts[: report.texts.index("Recipe")])


def test_one_class_and_classes_without_boxes(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, made_with = load_boxes(folder.boxes_file)
  content = json.loads(Path(made_with.data_dir, "val.json").read_text())
  content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 3]
  results = [
    {"image_id": row["image_id"], "category_id": 3, "bbox": row["bbox"], "score": 0.75}
    for row in content["annotations"]
  ]
  one = write_again(folder, boxes_of_coco(content, results, LabelMap((Category(3, "circle"),))))
  assert tile(one.texts, "AP") == "1.000"
  assert not any(text.startswith("Each class") for text in one.texts)
  several = write_again(folder, boxes_of_coco(content, results, boxes.label_map))
  assert tile(several.texts, "AP") == "1.000"
  assert several.texts.count("—") > 3 * 5
  assert "Each class" in several.texts


def test_a_class_that_the_common_threshold_hides_is_named(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, made_with = load_boxes(folder.boxes_file)
  content = json.loads(Path(made_with.data_dir, "val.json").read_text())
  results = [
    {**row, "score": 0.1 if row["category_id"] == 3 else 0.9} for row in content["annotations"]
  ]
  # Enough that is wrong at scores between those, for the best threshold to be above them.
  wrong = {"image_id": content["images"][0]["id"], "category_id": 7, "bbox": [0, 0, 2, 2]}
  results += [{**wrong, "score": 0.5}] * len(results)
  report = write_again(folder, boxes_of_coco(content, results, boxes.label_map))
  assert "Nothing of circle is found from there on; a threshold for each class" in " ".join(
    report.texts
  )


def test_many_classes_have_a_list_of_confusions_in_place_of_a_matrix(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  content, results = make_detections(0, 60, 81, 60)
  labels = LabelMap(tuple(Category(row["id"], row["name"]) for row in content["categories"]))
  report = write_again(folder, boxes_of_coco(content, results, labels))
  assert any("too many classes for a matrix" in text for text in report.texts)
  assert "Each class: the 60 with the most boxes, of 80" in report.texts
  assert (folder.path / "report.html").stat().st_size < 5_000_000


def test_what_coco_or_the_detector_leaves_out_is_said(evaluated, tmp_path):
  folder = type(evaluated)(tmp_path / "run")
  shutil.copytree(evaluated.path, folder.path)
  boxes, made_with = load_boxes(folder.boxes_file)
  content = json.loads(Path(made_with.data_dir, "val.json").read_text())
  image = content["images"][0]["id"]
  results = [
    {"image_id": image, "category_id": 3, "bbox": [i, 1, 9, 9], "score": 0.9 - i / 1000}
    for i in range(130)
  ]
  evaluation = evaluate_coco_results(content, results, boxes.label_map)
  folder.evaluation_file.write_text(evaluation.to_json())
  save_boxes(folder.boxes_file, boxes_of_coco(content, results, boxes.label_map), made_with)
  with_max_detections(folder, 130)
  write_run_report(folder.path)
  texts = " ".join(report_of(folder).texts)
  assert "30 of 130 detections are beyond that; with them counted, too, AP is 0." in texts
  assert (
    "In 1 of 10 images the detector gave as many detections as Detector.max_detections" in texts
  )


def test_curves_are_read_as_they_were_written(tmp_path):
  with tf.summary.create_file_writer(str(tmp_path)).as_default():
    for step in (1, 2, 3):
      tf.summary.scalar("loss", 1 / step, step)
  # It went on from step 2, and another process wrote what came then.
  with tf.summary.create_file_writer(str(tmp_path), filename_suffix=".again").as_default():
    tf.summary.scalar("loss", 0.25, 3)
    tf.summary.text("note", "no number", 3)
  curves = read_scalars(tmp_path)
  assert set(curves) == {"loss"}
  steps, values = curves["loss"]
  assert steps.tolist() == [1, 2, 3]
  assert values.tolist() == pytest.approx([1.0, 0.5, 0.25])
  assert read_scalars(tmp_path / "nothing") == {}


class TestTheProgram:
  def test_it_tells_a_run_from_what_is_in_it(self, evaluated, tmp_path, run_program):
    output = tmp_path / "page.html"
    result = run_program("report", evaluated.path, "--output", output)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{output}\n"
    assert tile(parsed(output).texts, "AP") == tile(report_of(evaluated).texts, "AP")

  def test_anything_else_is_refused_in_one_sentence(self, evaluated, tmp_path, run_program):
    for arguments, said in (
      ([tmp_path], "is neither the folder of a run, which has a config.gin, nor that of a search"),
      ([evaluated.path.parent], f"Perhaps you mean {evaluated.path}?"),
      ([tmp_path / "missing"], "There is no folder"),
      ([], "Give one folder"),
      ([evaluated.path, f"--search_dir={evaluated.path}"], "There are 2."),
      ([evaluated.path, "--proxy_check=check"], "--proxy_check is of no use"),
      ([f"--search_dir={tmp_path}", "--data_dir=data"], "--data_dir is of no use"),
      ([f"--model_dir={tmp_path}"], "is not a run folder"),
    ):
      result = run_program("report", *arguments)
      assert result.returncode == 1, arguments
      assert said in result.stderr
      assert len(result.stderr.strip().splitlines()) == 1
      assert list(tmp_path.iterdir()) == []

  def test_a_page_without_pictures_needs_no_tensorflow(self, evaluated, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(evaluated.path, folder)
    boxes, made_with = load_boxes(folder / "evaluated_boxes.npz")
    gone = EvaluatedWith(**{**vars(made_with), "data_dir": "gone"})
    save_boxes(folder / "evaluated_boxes.npz", boxes, gone)
    code = (
      "import sys, official_nasfpn as nasfpn\n"
      f"nasfpn.write_run_report({str(folder)!r})\n"
      "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert (folder / "report.html").is_file()

  def test_a_damaged_file_is_one_clear_line(self, evaluated, tmp_path, run_program):
    folder = tmp_path / "run"
    shutil.copytree(evaluated.path, folder)
    (folder / "evaluated_boxes.npz").write_bytes(b"no archive")
    result = run_program("report", folder)
    assert result.returncode == 1
    assert "evaluated_boxes.npz cannot be read" in result.stderr
    assert "Traceback" not in result.stderr
