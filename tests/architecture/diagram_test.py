"""Drawings: complete, readable and the same every time."""

import random
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyArrowPatch
from PIL import Image, ImageColor

import official_nasfpn
from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  SearchSpace,
  diagram,
  layout,
  unconsumed_inputs,
)

BEGINNINGS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("suffix", BEGINNINGS)
def test_a_drawing_is_the_same_every_time(tmp_path, suffix):
  files = [tmp_path / f"{name}.{suffix}" for name in ("first", "second")]
  for file in files:
    diagram.draw_pyramid(CATALOG["nas_fpn"], file, title="NAS-FPN")
  assert files[0].read_bytes() == files[1].read_bytes()
  assert files[0].read_bytes().startswith(BEGINNINGS[suffix])


def test_a_picture_has_the_nodes_where_they_are(tmp_path):
  spec = CATALOG["nas_fpn"]
  diagram.draw_pyramid(spec, tmp_path / "drawing.png")
  with Image.open(tmp_path / "drawing.png") as picture:
    pixels = np.asarray(picture.convert("RGB"))
  # A unit is 0.8 inches of 200 pixels; the first input stands 1.3 units right of the edge.
  unit = 160
  radius = layout.RADIUS * unit
  counts = {"input": 5, "intermediate": 2, "output": 5}
  for kind, count in counts.items():
    is_filled = (pixels == ImageColor.getrgb(diagram._FILLS[kind])).all(-1)
    # Less what is written into them and their edges, more than none is in the legend.
    assert 0.75 < is_filled.sum() / (count * np.pi * radius**2) < 1, kind
  columns = np.flatnonzero((pixels == ImageColor.getrgb("#e8e8e8")).all(-1).sum(axis=0) > 20)
  assert columns[0] == pytest.approx(1.3 * unit - radius, abs=4)
  assert columns[-1] == pytest.approx(1.3 * unit + radius, abs=4)


def test_a_figure_has_a_node_a_candidate_and_an_arrow_a_connection():
  spec = CATALOG["nas_fpn"]
  figure = diagram._figure_of([("NAS-FPN", spec)], num_columns=2)
  patches = figure.axes[0].patches
  assert sum(isinstance(patch, Circle) for patch in patches) == spec.num_inputs + spec.num_cells
  num_added = sum(map(len, unconsumed_inputs(spec)))
  arrows = [patch for patch in patches if isinstance(patch, FancyArrowPatch)]
  assert len(arrows) == 2 * spec.num_cells + num_added
  assert sum(arrow.get_linestyle() != "solid" for arrow in arrows) == num_added


class TestTheLegend:
  def test_it_explains_what_is_there(self):
    assert dict(layout.legend_entries([CATALOG["nas_fpn"]])) == {
      "input": "input",
      "intermediate": "intermediate cell",
      "output": "output cell",
      "added": "read by no cell, added to the output of its level",
      "op": "GP: global pooling: the coarser input gates the finer one",
    }

  def test_it_explains_nothing_that_is_not_there(self):
    # One level reads the other: no intermediate cell, nothing unread, no global pooling.
    spec = PyramidSpec(3, 4, (((0, 1), 4, "sum"), ((0, 2), 3, "sum")))
    assert not any(unconsumed_inputs(spec))
    assert layout.legend_entries([spec]) == [("input", "input"), ("output", "output cell")]

  def test_there_is_one_for_many_drawings(self, tmp_path, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")
    rng = random.Random(0)
    wide = SearchSpace(3, 6, 11, intermediate_levels=(4,)).sample(rng)
    panels = [("first", CATALOG["nas_fpn"]), ("second", wide), ("third", CATALOG["panet"])]
    diagram.draw_pyramids(panels, tmp_path / "drawing.svg")
    svg = (tmp_path / "drawing.svg").read_text()
    texts = ["first", "second", "third"]
    texts += [text for _, text in layout.legend_entries([spec for _, spec in panels])]
    for text in texts:
      assert svg.count(f">{text}</text>") == 1, text
    assert svg.count(">C3</text>") == 3

  def test_everything_lies_inside_of_the_picture(self):
    rng = random.Random(2)
    wide = SearchSpace(3, 6, 11, intermediate_levels=(4,)).sample(rng)
    narrow = SearchSpace(3, 4, 0).sample(rng)
    for panels in ([("a", narrow)], [("a", wide), ("b", narrow), ("c", wide)]):
      figure = diagram._figure_of(panels, num_columns=2)
      renderer = FigureCanvasAgg(figure).get_renderer()
      figure.draw(renderer)
      (axes,) = figure.axes
      for artist in (*axes.texts, *axes.patches, *axes.artists):
        box = artist.get_window_extent(renderer)
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


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
