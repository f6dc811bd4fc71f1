"""What a served model says before it computes."""

from official_nasfpn import gpus
from official_nasfpn.serving.export_folder import find_export
from official_nasfpn.serving.server.served_model import ServedModel


def test_a_gpu_that_is_not_used_is_named(export_dir, monkeypatch, capsys):
  monkeypatch.setattr(gpus, "unused_gpu", lambda: "This machine has an NVIDIA GPU, but")
  gpus.warn_of_an_unused_gpu.cache_clear()
  try:
    ServedModel(find_export(export_dir), "m")
  finally:
    gpus.warn_of_an_unused_gpu.cache_clear()
  assert "warning: This machine has an NVIDIA GPU, but" in capsys.readouterr().err
