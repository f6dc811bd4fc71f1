"""TensorBoard shows what trainings and searches write for it: it is started, and asked."""

import io
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import pytest
import tensorflow as tf
from PIL import Image

from official_nasfpn.architecture import CATALOG, to_gin
from official_nasfpn.data.config import InputConfig
from official_nasfpn.modeling.config import DetectorConfig
from official_nasfpn.search.report.events import EventLog
from official_nasfpn.search.store.trial_store import NewTrial, TrialStore
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment, open_dataset
from official_nasfpn.training.validation_pictures import ValidationPictures


def write_curve(search_dir, rewards):
  """Writes the curves of a search with one trial an update."""
  store = TrialStore(search_dir / "search.db")
  store.create()
  for number, reward in enumerate(rewards, start=1):
    text = to_gin(CATALOG["nas_fpn"])
    store.propose([NewTrial(number, number, (), (), str(number), text)])
    store.report_reward(number, store.claim("a").attempt, reward)
    store.mark_learnt(number, [number], b"", {})
  EventLog(search_dir / "events").write(store.trials(), store.metrics())
  store.close()


def write_pictures(run_dir, data_dir, step):
  """Writes the pictures of an evaluation in which nothing was detected."""
  experiment, dataset = open_dataset(
    Experiment(
      DetectorConfig(image_size=(128, 128)), InputConfig(data_dir=str(data_dir)), TrainingConfig()
    )
  )
  writer = tf.summary.create_file_writer(str(run_dir / "validation"))
  with writer.as_default(step):
    ValidationPictures(experiment, dataset).write([[]])
  writer.close()


@pytest.fixture
def ask():
  """Returns a function that starts TensorBoard on a folder, and gives one that asks its server."""
  servers = []

  def start(folder):
    server = subprocess.Popen(
      [
        *(sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)),
        *("--host", "127.0.0.1", "--port", "0"),
      ],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    servers.append(server)
    said = ""
    while not (address := re.search(r"(http://\S+/) \(Press", said)):
      line = server.stderr.readline()
      assert line, said
      said += line
    return lambda path: urllib.request.urlopen(address[1] + path, timeout=60).read()

  yield start
  for server in servers:
    server.kill()
    server.communicate()


@pytest.mark.slow
def test_it_serves_the_curve_of_a_search_and_the_pictures_of_a_training(ask, shapes_data, tmp_path):
  (tmp_path / "search").mkdir()
  write_curve(tmp_path / "search", [0.25, 0.5])
  write_pictures(tmp_path / "run", shapes_data, step=7)
  get = ask(tmp_path)

  def rows(plugin, **query):
    return json.loads(get(f"data/plugin/{plugin}?{urllib.parse.urlencode(query)}"))

  # It reads the files while it serves already.
  while not ("search/events" in rows("scalars/tags") and "run/validation" in rows("images/tags")):
    time.sleep(0.1)
  curve = rows("scalars/scalars", run="search/events", tag="reward/best")
  assert [(step, value) for _, step, value in curve] == [(1, 0.25), (2, 0.5)]
  ((tag, _), *others) = rows("images/tags")["run/validation"].items()
  assert tag.startswith("pictures/")
  assert len(others) == 3
  (picture,) = rows("images/images", run="run/validation", tag=tag, sample=0)
  assert picture["step"] == 7
  with Image.open(
    io.BytesIO(get(f"data/plugin/images/individualImage?{picture['query']}"))
  ) as image:
    assert image.format == "PNG"
    # Two panels, the longer side of each as large as pictures of a training are drawn. Which image
    # comes first, a wide or a high one, is TensorBoard's choice.
    assert 512 <= max(image.width / 2, image.height) < 600
