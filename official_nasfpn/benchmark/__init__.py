"""A benchmark of search algorithms: really trained architectures, a surrogate, a ranking.

`rank_algorithms` does what `nasfpn benchmark` does. The parts serve studies of one's own:

```python
import random
from official_nasfpn.architecture import SearchSpace
from official_nasfpn.benchmark import read_table, recorded_surrogate

trained = read_table()
best = max(trained, key=lambda entry: entry.reward)
drawn = SearchSpace().sample(random.Random(0))
print(best.reward, recorded_surrogate()([best.spec, drawn]))
```
"""

from official_nasfpn.benchmark.baselines import BASELINES, Conditions
from official_nasfpn.benchmark.benchmark import Ranking, rank_algorithms
from official_nasfpn.benchmark.ranking import Row
from official_nasfpn.benchmark.simulated_search import Progress, Run, search
from official_nasfpn.benchmark.surrogate import (
  Fit,
  Surrogate,
  benchmark_id,
  cross_validate,
  fit_surrogate,
  recorded_surrogate,
)
from official_nasfpn.benchmark.table import Recorded, read_table

__all__ = [
  "BASELINES",
  "Conditions",
  "Fit",
  "Progress",
  "Ranking",
  "Recorded",
  "Row",
  "Run",
  "Surrogate",
  "benchmark_id",
  "cross_validate",
  "fit_surrogate",
  "rank_algorithms",
  "read_table",
  "recorded_surrogate",
  "search",
]
