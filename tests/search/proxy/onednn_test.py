"""Workers train with oneDNN, but not where they time single images in TensorFlow."""

import os
import platform

import pytest

from official_nasfpn.installation import ONEDNN_VARIABLE
from official_nasfpn.search.proxy.proxy_task import settle_onednn
from official_nasfpn.search.recipe import read_recipe

AIMS_AT_LATENCY = ("Search.objectives = ('AP', 'latency')", "Search.algorithm = @Evolution()")
REWARDS_LATENCY = ("Reward.cost = 'latency'", "Reward.target = 5.0")


@pytest.fixture(autouse=True)
def x86_without_a_wish(monkeypatch):
  monkeypatch.setattr(platform, "machine", lambda: "x86_64")
  monkeypatch.setenv(ONEDNN_VARIABLE, "0")  # So that what a test leaves is taken back.
  monkeypatch.delenv(ONEDNN_VARIABLE)


@pytest.mark.parametrize(
  "bindings",
  [
    (),
    (*AIMS_AT_LATENCY, "Latency.runtime = 'litert'"),
    (*REWARDS_LATENCY, "Latency.runtime = 'onnxruntime'"),
    ("Search.objectives = ('AP', 'file_size')", "Search.algorithm = @Evolution()"),
  ],
)
def test_trainings_have_it_where_nothing_is_timed_with_it(recipe, bindings, capsys):
  settle_onednn(read_recipe([recipe], bindings))
  assert os.environ[ONEDNN_VARIABLE] == "1"
  assert not capsys.readouterr().out


@pytest.mark.parametrize("bindings", [AIMS_AT_LATENCY, REWARDS_LATENCY])
def test_it_is_as_tensorflow_has_it_where_tensorflow_is_timed(recipe, bindings, capsys):
  settle_onednn(read_recipe([recipe], bindings))
  assert ONEDNN_VARIABLE not in os.environ
  assert "trainings take up to 1.7 times as long" in capsys.readouterr().out


def test_a_wish_of_ones_own_counts(recipe, monkeypatch, capsys):
  monkeypatch.setenv(ONEDNN_VARIABLE, "1")
  settle_onednn(read_recipe([recipe], AIMS_AT_LATENCY))
  assert os.environ[ONEDNN_VARIABLE] == "1"
  assert not capsys.readouterr().out
