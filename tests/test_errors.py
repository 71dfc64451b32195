"""Every error crosses the border of a process as it is."""

import copy
import importlib
import inspect
import pickle
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import gqueue
from gqueue import errors

for module in pkgutil.walk_packages(gqueue.__path__, "gqueue."):
    if not module.name.startswith(("gqueue.worker", "gqueue.__main__")):  # the worker wants a patched process
        importlib.import_module(module.name)

VALUES = {"str": "some text", "int": 3, "bool": True, "float": 1.5, "tuple[str, ...]": ("a", "b")}


def all_errors(kind: type[errors.GqueueError] = errors.GqueueError) -> list[type[errors.GqueueError]]:
    own = [each for each in kind.__subclasses__() if each.__module__.startswith("gqueue.")]
    return [kind, *(deeper for each in own for deeper in all_errors(each))]


def example(kind: type[errors.GqueueError]) -> errors.GqueueError:
    if not any("__init__" in vars(base) for base in kind.__mro__ if base.__module__.startswith("gqueue.")):
        return kind("what happened")
    wanted = (str(inspect.formatannotation(each.annotation)) for each in inspect.signature(kind).parameters.values())
    return kind(*(VALUES[annotation.removesuffix(" | None")] for annotation in wanted))


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_an_error_is_the_same_after_pickle_and_copy(kind, again):
    error = example(kind)
    error.add_note("a note")

    back = again(error)

    assert type(back) is kind
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))
    assert vars(back) is not vars(error)


def test_there_are_errors_with_attributes_among_those_tested():
    assert {errors.JobTimeout, errors.QueueFull, errors.StoreUnavailable, errors.Retry} <= set(all_errors())
    assert vars(example(errors.StoreUnavailable)) == {"job_ids": ("a", "b"), "may_be_in": True, "admitted": ("a", "b")}


def fail() -> None:
    raise errors.JobFailed("j1", "failed", "ValueError: no", "Traceback ...")


def test_an_error_comes_out_of_a_pool_of_processes():
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(gqueue.JobFailed, match="job j1 is dead") as failed,
    ):
        pool.submit(fail).result(30)

    assert (failed.value.reason, failed.value.error) == ("failed", "ValueError: no")
