"""Early exits of an export: their results, their cost, and the exit that a budget allows."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from official_nasfpn.data.preprocessing import normalize
from official_nasfpn.errors import UserError
from official_nasfpn.modeling.anchors import flat_anchors
from official_nasfpn.modeling.detections import detect_boxes
from official_nasfpn.serving.export.warm_up import WARM_UP_FILE
from official_nasfpn.serving.export_folder import ExitLatency
from official_nasfpn.training.restore import restore_detector


@pytest.fixture(scope="module")
def anytime(anytime_detector):
  return anytime_detector


@pytest.fixture(scope="module")
def model(anytime_export_dir):
  return tf.saved_model.load(str(anytime_export_dir / "1"))


@pytest.fixture
def png(photo):
  # As large as the network's input, so that fitting changes nothing.
  return tf.io.encode_png(np.asarray(photo(256, 128))).numpy()


def test_every_exit_is_a_signature(model, saved_detector):
  names = {"serving_default", "image_tensors", "without_nms"}
  assert set(saved_detector._runtime._model.signatures) == names
  exits = {"exit_1", "exit_2", "exit_3", "detect_within"}
  assert set(model.signatures) == names | exits


def test_each_exit_is_the_detectors(anytime, anytime_run, photo, png):
  experiment, label_map = anytime_run.load()
  config = experiment.detector
  detector = restore_detector(experiment, label_map, anytime_run.latest_checkpoint())
  images = normalize(tf.constant(np.asarray(photo(256, 128)), tf.float32))[tf.newaxis]
  size = tf.constant([config.image_size], tf.float32)
  assert anytime.exits == detector.exits == (1, 2, 3)
  for number, outputs in zip(detector.exits, detector(images), strict=True):
    expected = detect_boxes(outputs, flat_anchors(config), size, config)
    found = anytime([png], exit_number=number)
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-5)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-2)
  last = anytime([png])
  np.testing.assert_array_equal(last["scores"], found["scores"])
  assert not np.allclose(last["scores"], anytime([png], exit_number=1)["scores"])


def test_an_exit_holds_no_convolution_of_later_pyramids_and_heads(model):
  def num_convolutions(signature):
    graph = convert_variables_to_constants_v2(model.signatures[signature]).graph
    return sum(operation.type == "Conv2D" for operation in graph.get_operations())

  first, second, third = (num_convolutions(f"exit_{number}") for number in (1, 2, 3))
  # A further FPN has a lateral and an output convolution on each of its five levels; every exit has
  # heads of the same size.
  assert second - first == third - second == 10
  assert num_convolutions("serving_default") == third


@pytest.mark.parametrize(
  ("budget", "batch", "expected"),
  [(1000, 1, 3), (30, 1, 3), (29, 1, 2), (15, 1, 1), (10, 1, 1), (1, 1, 1), (45, 2, 2), (-1, 1, 1)],
)
def test_a_budget_buys_the_last_exit_that_it_can(model, png, budget, batch, expected):
  model.exit_latency_ms.assign([10.0, 20.0, 30.0])
  images = tf.constant([png] * batch)
  found = model.signatures["detect_within"](
    image_bytes=images, budget_ms=tf.constant([budget], tf.float32)
  )
  assert found["exit"].numpy().tolist() == [expected] * batch
  assert found["expected_ms"].numpy().tolist() == [10.0 * expected * batch] * batch
  alone = model.signatures[f"exit_{expected}"](image_bytes=images)
  np.testing.assert_allclose(found["scores"], alone["scores"], atol=1e-6)


def test_the_smallest_budget_of_a_batch_counts(model, png):
  model.exit_latency_ms.assign([10.0, 20.0, 30.0])
  found = model.signatures["detect_within"](
    image_bytes=tf.constant([png, png]), budget_ms=tf.constant([1000.0, 41.0])
  )
  assert found["exit"].numpy().tolist() == [2, 2]


def test_the_times_are_measured_at_export_and_stored_inside(anytime, anytime_export_dir):
  record = json.loads((anytime_export_dir / "1" / "assets" / "export.json").read_text())
  latency = record["exit_latency"]
  assert [row["exit"] for row in latency] == [1, 2, 3]
  assert all(0 < row["median_ms"] <= row["p90_ms"] for row in latency)
  # The run's data is missing.
  assert record["exit_latency_measured_on"] == "drawn shapes"
  stored = tf.saved_model.load(str(anytime_export_dir / "1")).exit_latency_ms
  assert stored.numpy().tolist() == pytest.approx([row["p90_ms"] for row in latency])
  assert anytime.exit_latency == tuple(ExitLatency(**row) for row in latency)


def test_detecting_within_a_budget(anytime, png):
  assert anytime([png], budget_ms=1e6)["exit"].tolist() == [3]
  assert anytime([png], budget_ms=0)["exit"].tolist() == [1]


def test_an_exit_that_is_not_there_is_refused(anytime, saved_detector, png):
  with pytest.raises(UserError, match=r"There is no exit 4: .* has the exits 1, 2, 3"):
    anytime([png], exit_number=4)
  with pytest.raises(UserError, match=r"There is no exit 1: .* has one exit only"):
    saved_detector([png], exit_number=1)
  with pytest.raises(UserError, match="one exit only"):
    saved_detector([png], budget_ms=10)


def test_a_server_can_warm_up_with_every_signature(anytime_export_dir, model):
  apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
  version = anytime_export_dir / "1"
  requests = []
  for record in tf.data.TFRecordDataset(str(version / WARM_UP_FILE)):
    log = apis.PredictionLog.FromString(record.numpy())
    requests.append(log.predict_log.request)
  assert {request.model_spec.signature_name for request in requests} == set(model.signatures)
  for request in requests:
    inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
    outputs = model.signatures[request.model_spec.signature_name](
      **{name: tf.constant(value) for name, value in inputs.items()}
    )
    assert outputs["scores"].shape[0] == 1
