"""Which effects of a job a fault explains: at least once is no leave to do a job twice for nothing.

An effect is explained if the outcome of its attempt may never have been recorded, or was forgotten: a fault hit its
process while it ran, or held it afterwards, or Redis itself went back behind it. A job runs again for such an attempt
only, so of its effects all but one must be explained.
"""

from collections.abc import Iterator, Sequence

from tests.faults.history import Expect
from tests.faults.ledger import LAST_WORDS_NS, LEARNT_NS, Attempt, Entry, Fault, Ledger

RECORDED_NS = 1_000_000_000
"""An outcome is recorded within so long after the attempt's end, while Redis can be reached."""


class Doubles:
    """Finds the jobs of a ledger that were done again without a reason; it looks at those with several effects only."""

    def __init__(self, ledger: Ledger, expect: Expect) -> None:
        self._jobs = ledger.jobs
        self._of_process: dict[int, list[Fault]] = {}
        for fault in (*ledger.faults, *ledger.deaths):
            if fault.pid:
                self._of_process.setdefault(fault.pid, []).append(fault)
        self._of_all = [fault for fault in ledger.faults if not fault.pid]
        self._outages = [fault for fault in self._of_all if fault.ended > fault.began]
        self._forgetful = [fault for fault in self._of_all if fault.what in expect.doubled_by]
        learns = expect.doubled_within_s and not expect.lost_after_s  # Redis went back: a worker does not know at once
        self._after_ns = LEARNT_NS if learns else int(expect.lost_after_s * 1e9)
        self._within_ns = int(expect.doubled_within_s * 1e9) + RECORDED_NS

    def all(self) -> Iterator[tuple[Entry, Sequence[Attempt]]]:
        """Yield each job with two or more effects that nothing explains, and these."""
        for job in self._jobs.values():
            if job.effects > 1:
                for_nothing = [attempt for attempt in job.done if not self._is_explained(attempt, job)]
                if len(for_nothing) > 1:
                    yield job, for_nothing

    def _is_explained(self, attempt: Attempt, job: Entry) -> bool:
        hits = self._of_process.get(attempt.pid, ())
        return any(self._was_cut_off(attempt, job, fault) for fault in hits) or any(
            fault.began - self._within_ns <= _end(attempt) and attempt.started_at <= fault.ended + self._after_ns
            for fault in self._forgetful
        )

    def _was_cut_off(self, attempt: Attempt, job: Entry, fault: Fault) -> bool:
        """Return whether *fault* hit the process before the outcome of *attempt* was recorded."""
        if attempt.started_at > fault.ended + LAST_WORDS_NS:
            return False
        if not attempt.ended_at or attempt.ended_at >= fault.began or job.id in fault.ids:
            return True
        return not fault.ids and any(  # nobody could ask Redis what it held, or it was as little as could be recorded
            outage.began - RECORDED_NS <= attempt.ended_at and fault.began <= outage.ended + RECORDED_NS
            for outage in self._outages
        )


def _end(attempt: Attempt) -> int:
    return attempt.ended_at or attempt.effect_at
