"""From what a task did to an outcome: what it returned, what it raised, what it was hit with.

Decides which exceptions mean what. `Known.under` has told the limits, `core.retry` tells what follows. A task may
raise anything: sys.exit, GreenletExit and time limits of its own are failures like any other.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, ModuleType, TracebackType
from typing import Final, cast

import gevent

from gqueue.config import to_ms
from gqueue.core.model import Reason, check_name
from gqueue.core.retry import Cancelled, Failed, Outcome, Rejected, RetryAsked, Succeeded, TimedOut, UnknownTask
from gqueue.errors import BadName, BadPayload, BadSetting, Reject, Retry
from gqueue.store import codec
from gqueue.worker.running import Interrupted, Known, RunningJob

MISSING: Final = object()
"""In place of a value: the task did not return."""

SUCCEEDED = Succeeded()

SCALARS = frozenset({type(None), bool, int, float, str})
"""Of these a result runs no code but the interpreter's when it is encoded, shown and forgotten."""

WITHHELD = "[message withheld: the task is sensitive]"

UNNAMED = "an exception"
"""In place of the name of a class that no module has."""

MOST_CAUSES = 20
"""Exceptions of a chain that are told of a sensitive task; a chain may be a circle."""

# As the interpreter has them: a class may have put code of its own before them.
_name_of: Callable[[type], str] = vars(type)["__name__"].__get__
_qualname_of: Callable[[type], str] = vars(type)["__qualname__"].__get__
_module_of: Callable[[type], str] = vars(type)["__module__"].__get__
_names_in_class: Callable[[type], Mapping[str, object]] = vars(type)["__dict__"].__get__
_names_in_module: Callable[[ModuleType], Mapping[str, object]] = vars(ModuleType)["__dict__"].__get__
_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
_cause_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__cause__"].__get__
_context_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__context__"].__get__
_is_suppressed: Callable[[BaseException], bool] = vars(BaseException)["__suppress_context__"].__get__

_NEVER_RAN = (GeneratorType, CoroutineType, AsyncGeneratorType)


def outcome_of(job: RunningJob, value: object, error: BaseException | None, max_bytes: int) -> Outcome | None:
    """Return the outcome of an attempt, as `_outcome_of` tells; of a sensitive task's, without what it said."""
    outcome = _outcome_of(job, value, error, max_bytes)
    return _withheld(job, outcome, error) if job.known.sensitive else outcome


def _withheld(job: RunningJob, outcome: Outcome | None, error: BaseException | None) -> Outcome | None:
    """Return *outcome* without any text that the task's own code may have put its arguments into."""
    known = job.known
    said = "" if error is None else f"{class_shown(type(error))}: {WITHHELD}"
    match outcome:
        case Failed():
            return Failed(said, bare_trace_of(error))
        case TimedOut():
            how = "" if error is None or error is job.fate else f"; then {said}"
            return TimedOut(f"ran past its limit of {known.limit_s:g} s{how}", bare_trace_of(error or job.fate))
        case RetryAsked(delay_ms):
            return RetryAsked(delay_ms, bare_trace_of(error))
        case Rejected(reason=Reason.BAD_RECORD):
            return Rejected(f"arguments do not fit {known.name}", Reason.BAD_RECORD)
        case Rejected(reason=Reason.REJECTED):
            return Rejected(said, Reason.REJECTED, bare_trace_of(error))
    return outcome


def _outcome_of(job: RunningJob, value: object, error: BaseException | None, max_bytes: int) -> Outcome | None:
    """Return the outcome of an attempt; None: nothing is to be recorded.

    Code of the task's own may run meanwhile, and so be hit: that of exceptions and values, which show themselves. Once
    it was, no more of it runs, and what is told is less.

    A task that raises Retry or Reject is taken at its word, even when it was hit. A value stands against a cancel and
    against the end of the grace; not against the time limit, for else a task that swallows everything has none.

    Args:
        value: what the task returned, MISSING if it raised *error*.
        max_bytes: largest result.
    """
    known, fate = job.known, job.fate
    if job.lost:
        return None
    if error is None and (fate is None or isinstance(fate, Interrupted)):
        return success(known, value, max_bytes)
    over = _since(job)
    if isinstance(error, Retry):
        return _retry(error, over)
    if isinstance(error, Reject):
        return Rejected(error.why or "rejected by the task", traceback=trace_of(error, over))
    if fate is None:
        assert error is not None
        return failure(job, error, over)
    if isinstance(fate, Interrupted):
        return Cancelled() if fate.why is None else None
    how = "; the task caught the time-out" if error is None else f"; then {text_of(error, over)}"
    said = f"ran past its limit of {known.limit_s:g} s{'' if error is fate else how}"
    return TimedOut(said, trace_of(error or fate, over))


def outcome_untold(job: RunningJob) -> Outcome | None:
    """Return the outcome of an attempt whose outcome could not be taken: the task's own code was hit in that."""
    fate = job.fate
    if job.lost:
        return None
    if isinstance(fate, Interrupted):
        return Cancelled() if fate.why is None else None
    if fate is None:
        return Failed("what came of the task cannot be told: its own code fails")
    return TimedOut(f"ran past its limit of {job.known.limit_s:g} s, in code that shows what came of it")


def outcome_stuck(job: RunningJob, stack: str) -> Outcome | None:
    """Return the outcome of a job that swallowed its time-out or its cancel, and is given up as it runs."""
    if job.lost:
        return None
    if isinstance(job.fate, Interrupted) and job.fate.why is None:
        return Cancelled()
    said = f"ran past its limit of {job.known.limit_s:g} s, swallowed the time-out {job.hits} times, and still runs"
    return Rejected(said, Reason.STUCK, stack)


def outcome_strange(stray: BaseException) -> Outcome:
    """Return the outcome of a job that *stray* ended outside of the task's own call."""
    return Failed(f"{_name_of(type(stray))}: raised in the slot from outside, as gevent.kill does")


def success(known: Known, value: object, max_bytes: int) -> Outcome:
    """Return the outcome of a task that returned *value*; one that is not kept may be of any type."""
    if type(value) not in SCALARS and (isinstance(value, _NEVER_RAN) or inspect.isawaitable(value)):
        kind = type(value).__name__
        if isinstance(value, CoroutineType | GeneratorType):
            value.close()
        return Rejected(f"the task returned a {kind}, so it did not run: return a value", Reason.BAD_RESULT)
    if known.result_ttl_ms == 0:
        return SUCCEEDED
    try:
        data = codec.encode_value(value)
    except BadPayload as bad:
        return Rejected(f"the result cannot be sent: {WITHHELD}" if known.sensitive else str(bad), Reason.BAD_RESULT)
    except Exception as bad:  # noqa: BLE001 - a value's own code may run here, and raise what it likes
        said = WITHHELD if known.sensitive else text_of(bad)
        return Rejected(f"the result cannot be sent: {said}", Reason.BAD_RESULT)
    if len(data) > max_bytes:
        return Rejected(
            f"the result has {len(data):,} bytes, the limit is {max_bytes:,} (max_payload_bytes): "
            "store it elsewhere and return its key",
            Reason.BAD_RESULT,
        )
    return Succeeded(data)


def failure(job: RunningJob, error: BaseException, over: Callable[[], bool]) -> Outcome:
    """Return the outcome of a task that raised *error*, and was not hit."""
    if isinstance(error, TypeError) and (misfit := _misfit(job, error)):
        return Rejected(misfit, Reason.BAD_RECORD)
    text = text_of(error, over)
    if isinstance(error, gevent.Timeout):
        text += " (a time limit of the task's own)"
    return Failed(text, trace_of(error, over))


def unknown(job: RunningJob, stranger: Known) -> Outcome:
    """Return the outcome of a job whose task is not registered here; its record's own limits hold."""
    assert job.record is not None
    try:
        check_name("task", job.record.task)  # only here: what is registered has been checked
        job.known = stranger.under(job.record)
    except (BadName, codec.BadRecord) as bad:
        return unreadable(bad)
    return UnknownTask(job.record.task)


def unreadable(error: Exception) -> Outcome:
    """Return the outcome of a job whose record cannot be read, or is not to be trusted: in neither case does it run."""
    if isinstance(error, codec.BadSignature):
        return Rejected(f"the job's record is not to be trusted: {error}", Reason.BAD_SIGNATURE)
    return Rejected(f"the job's record cannot be read: {error}", Reason.BAD_RECORD)


def _never() -> bool:
    return False


def text_of(error: BaseException, over: Callable[[], bool] = _never) -> str:
    """Return type and message of *error*, as at the end of a traceback. Never raises, whatever *error* is.

    *over* tells that no more code of the error's own may run.
    """
    # Code of the exception's own runs here, or of those it holds or was caused by, and may raise anything, even itself.
    name = _name_of(type(error))
    for form in (_as_python_does, _plainly):
        if over():
            break
        try:
            return form(name, error)
        except BaseException:  # noqa: BLE001 - as said
            pass
    return f"{name} (it cannot be shown: its own code {'takes too long' if over() else 'fails'})"


def _as_python_does(_name: str, error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _plainly(name: str, error: BaseException) -> str:
    return f"{name}: {error}"


def trace_of(error: BaseException, over: Callable[[], bool] = _never) -> str:
    """Return the traceback of *error* as text, without the worker's own frame at its top. Never raises, either."""
    trace = _below(error)
    try:
        if not over():
            return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:  # noqa: BLE001 - as in `text_of`; where it was raised is known all the same
        pass
    try:
        # Without their source, which the loader of a module gives, and may be long about.
        shown = "".join(traceback.format_tb(trace)) if not over() else "".join(_places(trace))
    except BaseException:  # noqa: BLE001 - the loader may fail, too
        shown = "".join(_places(trace))
    return f"Traceback (most recent call last):\n{shown}{text_of(error, over)}\n"


def _places(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield _place(trace.tb_frame, trace.tb_lineno)
        trace = trace.tb_next


def stack_of(frame: FrameType | None, top: FrameType | None, *, bare: bool = False) -> str:
    """Return where a greenlet hangs that is in *frame*: its calls below the two outermost, the slot's, as text.

    *top* is the outermost; *bare*: as of a sensitive task. Runs no code but gqueue's.
    """
    places: list[str] = []
    while frame is not None and frame is not top:
        places.append((_bare_place if bare else _place)(frame, frame.f_lineno))
        frame = frame.f_back
    return f"Stack (most recent call last):\n{''.join(reversed(places[:-1]))}"


def _place(frame: FrameType, line: int | None) -> str:
    return f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n'


def _since(job: RunningJob) -> Callable[[], bool]:
    """Return what tells whether the job was hit since now."""
    hits = job.hits
    return lambda: job.hits != hits


def bare_trace_of(error: BaseException | None) -> str:
    """Return the traceback of *error*, and of what caused it, with types and places alone: no message, no note.

    And no source: that of code which was made as the task ran may hold what it was made of.
    """
    told: list[str] = []
    while error is not None and len(told) < MOST_CAUSES:
        places = "".join(_bare_places(_below(error) if not told else _traceback_of(error)))
        told.append(f"Traceback (most recent call last):\n{places}{class_shown(type(error))}: {WITHHELD}\n")
        error = _cause_of(error) or (None if _is_suppressed(error) else _context_of(error))
    return "\nIt led to:\n\n".join(reversed(told))


def _bare_places(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield _bare_place(trace.tb_frame, trace.tb_lineno)
        trace = trace.tb_next


def _bare_place(frame: FrameType, line: int | None) -> str:
    """Return the place, if it is in the file of a module: other code may be named by what it was made of."""
    file = frame.f_globals.get("__file__")
    if type(file) is str and file == frame.f_code.co_filename:
        return _place(frame, line)
    return f"  In code of no module's file, line {line}\n"


def class_shown(kind: type) -> str:
    """Return the name of *kind*, if it is found under it in its module: others may be named by what a task was given.

    Runs no code but gqueue's.
    """
    try:
        module = _module_of(kind)
    except AttributeError:  # it was deleted
        return UNNAMED
    found: object = sys.modules.get(module) if type(module) is str else None
    for name in _qualname_of(kind).split("."):
        if type(found) is ModuleType:
            found = _names_in_module(found).get(name)
        elif issubclass(type(found), type):
            found = _names_in_class(cast(type, found)).get(name)
        else:
            return UNNAMED
    return _name_of(kind) if found is kind else UNNAMED


def _below(error: BaseException) -> TracebackType | None:
    trace = _traceback_of(error)
    return trace.tb_next if trace is not None else None


def _retry(asked: Retry, over: Callable[[], bool]) -> Outcome:
    try:
        delay_ms = None if asked.delay is None else to_ms("the delay of Retry", asked.delay)
    except BadSetting as bad:
        return Failed(str(bad), trace_of(asked, over))
    return RetryAsked(delay_ms, trace_of(asked, over))


def _misfit(job: RunningJob, error: TypeError) -> str | None:
    """Return what is wrong with the arguments if *error* is of the call itself, not of the task's body."""
    if _below(error) is not None:
        return None
    assert job.record is not None
    known = job.known
    try:
        signature = inspect.signature(known.function)
    except ValueError:  # a builtin that does not tell: its call alone can judge, and did
        return f"arguments do not fit {known.name}: {error}"
    try:
        signature.bind(*job.record.args, **job.record.kwargs)
    except TypeError as misfit:
        return f"arguments do not fit {known.name}{signature}: {misfit}"
    return None
