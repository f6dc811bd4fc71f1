"""Drawings: complete, readable and the same every time."""

import random
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pytest

import official_nasfpn
from official_nasfpn.architecture import CATALOG, SearchSpace, diagram, layout, unconsumed_inputs

BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_a_drawing_is_the_same_every_time(tmp_path, suffix):
  files = [tmp_path / f"{name}.{suffix}" for name in ("first", "second")]
  for file in files:
    diagram.draw_pyramid(CATALOG["nas_fpn"], file, title="NAS-FPN")
  assert files[0].read_bytes() == files[1].read_bytes()
  assert files[0].read_bytes().startswith(BEGINNINGS[suffix])


def test_every_layer_has_a_disk_of_its_kind(tmp_path):
  spec = CATALOG["nas_fpn"]
  diagram.draw_pyramid(spec, tmp_path / "drawing.png")
  pixels = np.rint(255 * matplotlib.image.imread(tmp_path / "drawing.png")[..., :3])
  # Areas in pixels, at 200 to an inch: a layer's disk, and the legend's mark of 8 points.
  disk = np.pi * (layout.RADIUS * 0.8 * 200) ** 2
  mark = np.pi * (4 / 72 * 200) ** 2
  counts = {"input": spec.num_inputs, "intermediate": 2, "output": 5}
  for kind, count in counts.items():
    fill = [int(diagram._FILLS[kind][at : at + 2], 16) for at in (1, 3, 5)]
    area = (pixels == fill).all(axis=-1).sum()
    # Text and edges cover some 10 to 25 %; one of five disks is 20 %.
    assert 0.75 < area / (count * disk + mark) < 0.9, kind


def test_a_drawing_says_every_layer_and_its_title(tmp_path, monkeypatch):
  monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # letters stay letters
  diagram.draw_pyramid(CATALOG["nas_fpn"], tmp_path / "drawing.svg", title="Found in trial 12")
  svg = (tmp_path / "drawing.svg").read_text()
  for text in ("C3", "C7", "P3", "P7", "sum", "GP", "1/8", "1/128", "Found in trial 12"):
    assert f">{text}</text>" in svg


@pytest.mark.parametrize("space", [SearchSpace(), SearchSpace(3, 6, 4), SearchSpace(3, 4, 0)])
def test_every_connection_has_an_arrow(space):
  spec = space.sample(random.Random(0))
  expected = [
    (source, spec.num_inputs + index, added)
    for index, (cell, extra) in enumerate(zip(spec.cells, unconsumed_inputs(spec), strict=True))
    for added, sources in ((False, cell.inputs), (True, extra))
    for source in sources
  ]
  arrows = layout.place_arrows(spec, layout.node_centers(spec))
  assert sorted((a.source, a.target, a.added) for a in arrows) == sorted(expected)


def test_no_arrow_runs_through_a_node():
  rng = random.Random(1)
  for spec in (*CATALOG.values(), *(SearchSpace().sample(rng) for _ in range(15))):
    centers = layout.node_centers(spec)
    for arrow in layout.place_arrows(spec, centers):
      curve = layout.arrow_points(centers[arrow.source], centers[arrow.target], arrow.bend)
      others = np.delete(centers, (arrow.source, arrow.target), axis=0)
      assert layout.distances(curve, others).min() > layout.RADIUS, (spec, arrow)


def test_the_room_does_not_load_matplotlib():
  code = "import sys, official_nasfpn.architecture; sys.exit('matplotlib' in sys.modules)"
  repository = Path(official_nasfpn.__file__).parents[1]
  subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)
