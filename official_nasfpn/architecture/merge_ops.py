"""The operations that a merging cell can use, as data (paper, section 3.1, Figure 3).

What an operation computes is a function in `official_nasfpn.modeling.merging`, under the same name.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class MergeOp:
  """One operation that joins two feature maps into one. It has no weights.

  Attributes:
    short_name: the label of a cell in drawings; there is room for about four letters.
    symmetric: whether the result is the same when the two maps are swapped. If not, the map of the
      higher level is the first, the coarse one; at equal levels it is the cell's first input.
    reference_name: its name in the authors' released code and in Model Garden; None if it is the
      same there, or does not exist there.
    meaning: what `short_name` stands for, shown in a drawing's legend; None if it explains itself.
  """

  short_name: str
  symmetric: bool
  reference_name: str | None = None
  meaning: str | None = None


MERGE_OPS = {
  "sum": MergeOp("sum", symmetric=True),
  "global_pool": MergeOp(
    "GP",
    symmetric=False,
    reference_name="attention",
    meaning="global pooling: the coarser input gates the finer one",
  ),
}
