"""Which leases have run out, by a process that trusts no clock that anybody may set.

The clock of a machine jumps when it is set, and by the hour when the machine was suspended. What
does not jump is the time for which this process has watched a lease that nobody renewed.

A worker's lease may be longer than that of who watches, if the search was continued with a shorter
one. What is left of it, by the clock that may have been set, is believed within limits: it makes
the watch last longer, never shorter.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

# Who has not looked for longer than this and a lease was suspended, like the workers, perhaps.
_SHORTEST_ABSENCE_SECONDS = 5.0
# A worker's lease may be longer than that of who watches it, but hardly by this factor. Workers
# renew in a quarter of a lease, so that a healthy one keeps its trial at a greater factor, too.
LONGEST_LEASES = 10


class _Seen(NamedTuple):
  """A lease as it was when it was first seen.

  Attributes:
    lease: what changes when it is renewed.
    since: when that was, by the clock that does not jump; later if the watch was interrupted.
    seconds: for how long it is watched.
  """

  lease: object
  since: float
  seconds: float


class LeaseWatch:
  """The leases that one process has seen, and since when."""

  def __init__(self, lease_seconds: float):
    """Has seen none yet.

    Args:
      lease_seconds: a lease that is not renewed for so long has run out, unless it is longer.
    """
    self._lease_seconds = lease_seconds
    self._seen: dict[int, _Seen] = {}
    self._looked_at = 0.0
    self._server_time: float | None = None
    self._jumped_at: float | None = None

  def expired(self, leases: Iterable[tuple[int, object, float]]) -> list[int]:
    """Returns the trials whose lease was not renewed while this process watched.

    Args:
      leases: number of each running trial, what changes when its lease is renewed, and the seconds
        that are left of it by a clock that may have been set.
    """
    now = time.monotonic()
    if now - self._looked_at > max(self._lease_seconds, _SHORTEST_ABSENCE_SECONDS):
      # How long they are is still known: it was seen before the clock jumped, if it did.
      self._seen = {number: seen._replace(since=now) for number, seen in self._seen.items()}
    self._looked_at = now
    before, self._seen = self._seen, {}
    for number, lease, left in leases:
      seen = before.get(number)
      if seen is None or seen.lease != lease:
        longest = LONGEST_LEASES * self._lease_seconds
        seen = _Seen(lease, now, max(self._lease_seconds, min(left, longest)))
      self._seen[number] = seen
    return [n for n, seen in self._seen.items() if now - seen.since >= seen.seconds]

  def has_jumped(self, server_time: float) -> bool:
    """Returns whether the clock of a server was set during the last lease.

    Args:
      server_time: what it says now, in seconds.
    """
    now = time.monotonic()
    if self._server_time is not None:
      drift = (server_time - self._server_time) - (now - self._looked_at)
      if abs(drift) > self._lease_seconds / 4:
        self._jumped_at = now
    self._server_time, self._looked_at = server_time, now
    return self._jumped_at is not None and now - self._jumped_at < self._lease_seconds
