"""`nasfpn weights`: what it prints."""

import pytest

from official_nasfpn.modeling.imagenet_weights import PUBLISHED_FILES


def test_every_file_is_listed_with_its_setting(run_program, tmp_path, monkeypatch):
  monkeypatch.setenv("NASFPN_WEIGHTS", str(tmp_path))
  result = run_program("weights")
  assert result.returncode == 0
  entries = result.stdout.split("\n\n")
  assert len(entries) == len(PUBLISHED_FILES) + 1
  for file, entry in zip(PUBLISHED_FILES, entries, strict=False):
    assert entry.startswith(f"{file.backbone}: {file.name}\n")
    assert (file.url or file.place) in entry
    assert file.checksum_text in entry
    assert f"Training.backbone_weights = '{file.setting}'" in entry
  assert str(tmp_path) in entries[-1]


def test_those_of_one_backbone(run_program):
  result = run_program("weights", "--backbone=MobileNetV2")
  assert result.stdout.count("setting") == 1
  assert "MobileNetV2-keras: keras/mobilenet_v2\n" in result.stdout


@pytest.mark.parametrize(
  ("backbone", "message"),
  [("MobileNetV3", "Did you mean MobileNetV2?"), ("R-10", "There are no published weights for R-")],
)
def test_other_backbones_are_one_clear_line(backbone, message, run_program):
  result = run_program("weights", f"--backbone={backbone}")
  assert result.returncode == 1
  assert message in result.stderr
  assert "Traceback" not in result.stderr
