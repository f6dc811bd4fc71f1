"""The number format that `Training.compute_dtype` selects on a device."""

import dataclasses

import pytest
import tensorflow as tf
import tf_keras

from official_nasfpn.data.config import InputConfig
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training import number_format as number_format_lib
from official_nasfpn.training.config import TrainingConfig
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.number_format import (
  has_bfloat16_units,
  number_format,
  settled_compute_dtype,
)
from official_nasfpn.training.runner import configure_tensorflow

# Shortened from /proc/cpuinfo.
EPYC_2 = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 sha_ni\nbugs\t\t: bf16\n"
SAPPHIRE_RAPIDS = "model name\t: Xeon\nflags\t\t: avx512f avx512_bf16 amx_tile\n"
AMX = "flags\t\t: avx512f amx_bf16 amx_tile amx_int8\n"
GRAVITON_2 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes dcpop asimddp\n"
GRAVITON_3 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes svebf16 i8mm bf16 dgh\n"


@pytest.mark.parametrize(
  ("cpu_info", "has_units"),
  [
    (EPYC_2, False),
    (SAPPHIRE_RAPIDS, True),
    (AMX, True),
    (GRAVITON_2, False),
    (GRAVITON_3, True),
    ("", False),
  ],
)
def test_processors(cpu_info, has_units, tmp_path, monkeypatch):
  assert has_bfloat16_units(cpu_info) == has_units
  (tmp_path / "cpuinfo").write_text(cpu_info)
  monkeypatch.setattr(number_format_lib, "_CPU_INFO", tmp_path / "cpuinfo")
  settled = number_format("auto")
  assert settled.compute_dtype == ("mixed_bfloat16" if has_units else "float32")
  no = "" if has_units else "no "
  dtype = "bfloat16" if has_units else "float32"
  assert str(settled) == f"computes in {dtype}: this processor has {no}bfloat16 units"
  assert settled.warning is None


def test_another_system_computes_in_float32(tmp_path, monkeypatch):
  monkeypatch.setattr(number_format_lib, "_CPU_INFO", tmp_path / "missing")
  assert number_format("auto").compute_dtype == "float32"
  assert "does not say" in str(number_format("auto"))


@pytest.mark.parametrize(
  ("details", "compute_dtype", "finding"),
  [
    ([("H100", (9, 0))], "mixed_bfloat16", "H100, of compute capability 9.0, has bfloat16 units"),
    ([("A100", (8, 0))], "mixed_bfloat16", "A100, of compute capability 8.0, has bfloat16 units"),
    (
      [("T4", (7, 5))],
      "mixed_float16",
      "float16: T4, of compute capability 7.5, has no bfloat16 units, but has float16 units",
    ),
    ([("V100", (7, 0))], "mixed_float16", "V100, of compute capability 7.0, has no bfloat16 units"),
    ([("P100", (6, 0))], "float32", "has no bfloat16 units and no float16 units"),
    # The weakest of several devices decides; an unknown one counts as the weakest.
    ([("A100", (8, 0)), ("T4", (7, 5))], "mixed_float16", "T4, of"),
    ([("A100", (8, 0)), ("P100", (6, 0))], "float32", "P100, of"),
    ([("A100", (8, 0)), ("MI250", None)], "float32", "MI250 does not say"),
    ([("A100", (8, 0)), ("", None)], "float32", "the GPU does not say"),
  ],
)
def test_gpus(details, compute_dtype, finding, install_gpus):
  install_gpus(*details)
  settled = number_format("auto")
  assert settled.compute_dtype == compute_dtype
  assert finding in str(settled)


@pytest.mark.parametrize(
  ("capability", "stated", "line"),
  [
    ((8, 0), "float32", "computes in float32, multiplies in TF32: as Training.compute_dtype"),
    ((9, 0), "mixed_bfloat16", "computes in bfloat16: as"),
    ((9, 0), "mixed_float16", "computes in float16: as"),
    ((7, 5), "float32", "computes in float32: as"),
  ],
)
def test_tf32_is_stated_where_float32_is_multiplied_in_it(capability, stated, line, install_gpus):
  install_gpus(("card", capability))
  assert str(number_format(stated)).startswith(line)
  assert number_format(stated).warning is None
  tf.config.experimental.enable_tensor_float_32_execution(False)
  try:
    assert "TF32" not in str(number_format(stated))
  finally:
    tf.config.experimental.enable_tensor_float_32_execution(True)


def test_float16_is_warned_of_where_it_gains_nothing(tmp_path, monkeypatch, install_gpus):
  for cpu_info in (EPYC_2, GRAVITON_3):
    (tmp_path / "cpuinfo").write_text(cpu_info)
    monkeypatch.setattr(number_format_lib, "_CPU_INFO", tmp_path / "cpuinfo")
    assert "takes forty times as long" in number_format("mixed_float16").warning
  install_gpus(("P100", (6, 0)))
  assert "no float16 units: it is computed by way of" in number_format("mixed_float16").warning


def test_what_is_stated_is_obeyed_and_a_slow_choice_is_warned_of_once(
  tmp_path, monkeypatch, capsys
):
  file = tmp_path / "cpuinfo"
  monkeypatch.setattr(number_format_lib, "_CPU_INFO", file)
  number_format_lib._warn_once.cache_clear()
  file.write_text(SAPPHIRE_RAPIDS)
  assert settled_compute_dtype("float32") == "float32"
  assert settled_compute_dtype("mixed_bfloat16") == "mixed_bfloat16"
  file.write_text(EPYC_2)
  assert settled_compute_dtype("float32") == "float32"
  assert capsys.readouterr().err == ""
  for _ in range(2):
    assert settled_compute_dtype("mixed_bfloat16") == "mixed_bfloat16"
  warned = capsys.readouterr().err
  assert warned.count("\n") == 1
  assert "takes seven to ten times as long" in warned
  assert "Write Training.compute_dtype = 'auto'" in warned


@pytest.mark.parametrize(
  ("cpu_info", "policy"), [(EPYC_2, "float32"), (GRAVITON_3, "mixed_bfloat16")]
)
def test_keras_is_given_what_it_comes_to(cpu_info, policy, tmp_path, monkeypatch):
  (tmp_path / "cpuinfo").write_text(cpu_info)
  monkeypatch.setattr(number_format_lib, "_CPU_INFO", tmp_path / "cpuinfo")
  try:
    configure_tensorflow(TrainingConfig(compute_dtype="auto"))
    assert tf_keras.mixed_precision.global_policy().name == policy
  finally:
    tf_keras.mixed_precision.set_global_policy("float32")


def test_what_is_kept_does_not_depend_on_the_machine(tmp_path, monkeypatch):
  versions = set()
  for cpu_info in (EPYC_2, SAPPHIRE_RAPIDS):
    (tmp_path / "cpuinfo").write_text(cpu_info)
    monkeypatch.setattr(number_format_lib, "_CPU_INFO", tmp_path / "cpuinfo")
    recipe = read_recipe(["gin/paper/proxy_search.gin"])
    assert "Training.compute_dtype = 'auto'" in recipe.to_gin()
    versions.add(recipe.version)
  assert len(versions) == 1


def test_a_run_goes_on_where_the_number_format_is_left_to_the_device(tmp_path):
  # Like a run from before `auto` existed.
  from official_nasfpn.data.label_map import Category, LabelMap
  from official_nasfpn.training.run_folder import RunFolder

  labels = LabelMap((Category(id=1, name="cell"),))
  folder = RunFolder(tmp_path / "run")

  def in_format(compute_dtype):
    training = TrainingConfig(compute_dtype=compute_dtype)
    return Experiment(DetectorConfig(), InputConfig(), training)

  folder.claim(in_format("mixed_bfloat16"), labels)
  folder.claim(in_format("auto"), labels)
  assert folder.load()[0].training.compute_dtype == "mixed_bfloat16"
  with pytest.raises(UserError, match="compute_dtype is 'mixed_bfloat16' there and 'float32' here"):
    folder.claim(in_format("float32"), labels)
  changed = dataclasses.replace(in_format("auto"), detector=DetectorConfig(num_filters=8))
  with pytest.raises(UserError, match="num_filters"):
    folder.claim(changed, labels)
