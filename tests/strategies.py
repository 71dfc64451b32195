"""Small universes for property tests: few ids, few ranks, times around the lease, so that collisions happen."""

from hypothesis import strategies as st

from gqueue.core.lifecycle import Move
from gqueue.core.model import NewJob, Reason, Rules, Settlement

IDS = ("a", "b", "c", "d")
WORKERS = ("w1", "w2", "w3")
LEASE_MS = 900
RULES = Rules(lease_ms=LEASE_MS, max_crashes=3, letters_max=2, shed_max=1, letters_ms=20_000, result_ttl_ms=600_000)

ids = st.sampled_from(IDS)
priorities = st.sampled_from([0.0, 1.0, -0.5])
steps_ms = st.sampled_from([0, 1, 149, 150, 151, 299, 300, 450, 451, 900, 901, 1_999, 2_000, 2_001, 5_001])
ttls_ms = st.sampled_from([0, 600_000])
records = st.sampled_from([b"{}", b'{"task":"t"}', b"\x00 not json"])

new_jobs = st.builds(
    NewJob, id=ids, priority=priorities, delay_ms=st.sampled_from([0, 0, 0, 100, 1_000]), record=records
)
batches = st.lists(new_jobs, min_size=1, max_size=4)

reports = st.sampled_from([b"{}", b'{"error":"boom"}'])
settlements = st.one_of(
    st.builds(
        Settlement,
        job_id=ids,
        move=st.just(Move.SUCCEED.value),
        outcome=st.just(b'{"state":"succeeded"}'),
        ttl_ms=ttls_ms,
    ),
    st.builds(
        Settlement, job_id=ids, move=st.just(Move.RETRY.value), delay_ms=st.sampled_from([0, 1, 1_000]), ttl_ms=ttls_ms
    ),
    st.builds(Settlement, job_id=ids, move=st.just(Move.CANCEL.value), ttl_ms=ttls_ms),
    st.builds(
        Settlement,
        job_id=ids,
        move=st.just(Move.BURY.value),
        reason=st.sampled_from([r.value for r in Reason if r is not Reason.SHED]),
        report=reports,
        outcome=st.just(b'{"state":"dead"}'),
        ttl_ms=ttls_ms,
    ),
)
