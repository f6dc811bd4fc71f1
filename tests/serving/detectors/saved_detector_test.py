"""Loading an export where the detector's code is not needed."""

import subprocess
import sys

import pytest

from official_nasfpn.errors import UserError
from official_nasfpn.serving.detectors.saved_detector import SavedDetector

LOAD = """
import sys
from official_nasfpn.serving import SavedDetector, detect_files
from official_nasfpn.serving.detect.detection_run import run_detection
print(SavedDetector(sys.argv[1]).label_map.name(1))
for name in ("official", "official_nasfpn.modeling", "official_nasfpn.architecture"):
  assert name not in sys.modules, name
"""


@pytest.mark.slow
def test_neither_the_detectors_code_nor_model_garden_is_imported(export_dir):
  command = [sys.executable, "-c", LOAD, str(export_dir)]
  process = subprocess.run(command, check=True, capture_output=True, text=True)
  assert process.stdout == "bee\n"


def test_a_folder_that_is_no_export_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"not a SavedModel: it has no saved_model\.pb"):
    SavedDetector(tmp_path)


def test_a_damaged_export_is_refused(export_dir, tmp_path):
  (tmp_path / "assets").mkdir()
  (tmp_path / "assets" / "label_map.json").write_bytes(
    (export_dir / "1" / "assets" / "label_map.json").read_bytes()
  )
  graph = (export_dir / "1" / "saved_model.pb").read_bytes()
  (tmp_path / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
  with pytest.raises(UserError, match="is damaged"):
    SavedDetector(tmp_path)
  (tmp_path / "saved_model.pb").write_bytes(graph)
  with pytest.raises(UserError, match="is damaged"):
    SavedDetector(tmp_path)  # The variables are missing.
