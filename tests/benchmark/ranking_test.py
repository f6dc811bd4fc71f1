"""The ranking: its figures by hand on small searches, its table."""

from scipy.stats import mannwhitneyu

from official_nasfpn.benchmark.baselines import RANDOM
from official_nasfpn.benchmark.ranking import as_table, p_value, rank
from official_nasfpn.benchmark.simulated_search import Progress


def progress(*returned, hours=1.0):
  return Progress(returned, tuple(hours * n for n in range(1, len(returned) + 1)))


SEARCHES = {
  "mine": [progress(0.1, 0.3, 0.4), progress(0.2, 0.2, 0.5), progress(0.1, 0.1, 0.1)],
  RANDOM: [progress(0.1, 0.2, 0.3), progress(0.1, 0.2, 0.2), progress(0.0, 0.3, 0.25)],
  "evolution": [progress(0.1, 0.2, 0.5, hours=2.0)] * 3,
  "never": [progress(0.0)] * 3,
}


def test_rows_are_those_of_a_calculation_by_hand():
  rows = {row.algorithm: row for row in rank(SEARCHES, [RANDOM, "evolution"])}
  assert [*rows] == ["evolution", "mine", RANDOM, "never"]
  mine = rows["mine"]
  assert (mine.rank, mine.median, mine.lowest, mine.highest) == (2, 0.4, 0.1, 0.5)
  # Random search returns 0.25 in the median: reached after 2 and 3 architectures, and never.
  assert mine.trials_to_random == 3
  # The best baseline's median is 0.5: two of three never get there.
  assert mine.trials_to_best is None
  assert (rows["evolution"].trials_to_random, rows["evolution"].trials_to_best) == (3, 3)
  assert (mine.hours, rows["evolution"].hours, rows["never"].hours) == (3.0, 6.0, 1.0)
  assert rows[RANDOM].p is None
  assert mine.p == mannwhitneyu([0.4, 0.5, 0.1], [0.3, 0.2, 0.25]).pvalue


def test_equal_ones_share_a_rank():
  rows = rank({**SEARCHES, "twin": SEARCHES[RANDOM]}, [RANDOM])
  ranks = {row.algorithm: row.rank for row in rows}
  assert (ranks["twin"], ranks[RANDOM], ranks["never"]) == (3, 3, 5)
  assert p_value(SEARCHES[RANDOM], SEARCHES[RANDOM]) == 1


def test_the_table_says_all_of_it():
  lines = as_table(rank(SEARCHES, [RANDOM, "evolution"])).splitlines()
  assert len(lines) == 6
  assert len({len(line) for line in lines}) == 1
  cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
  assert cells[2][:4] == ["1", "evolution", "0.5000", "0.5000 to 0.5000"]
  assert cells[3][:7] == ["2", "mine", "0.4000", "0.1000 to 0.5000", "3", "never", "3.0"]
  assert cells[4][-1] == ""
