"""All exceptions of the package can be pickled. A pool waits forever for a worker that raises one that cannot."""

import importlib.util
import inspect
import pickle
import pkgutil
from collections.abc import Sequence
from typing import get_type_hints

import pytest

import modeling_mmer
from modeling_mmer import MMERConfig
from modeling_mmer.training.resumable_trainer import DivergedError

EXAMPLES = {int: 3, str: "Why: because.", Sequence[str]: ["a/1", "b 2"]}


def exception_classes() -> list[type[BaseException]]:
    """Those that the package's modules define."""
    found = set()
    for module in pkgutil.walk_packages(modeling_mmer.__path__, "modeling_mmer."):
        if module.name.endswith(("__main__", "onnx_inference", "onnx_endpoint")):  # of exported folders
            continue
        if module.name == "modeling_mmer.space.page" and importlib.util.find_spec("gradio") is None:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(value) and issubclass(value, BaseException):
                if value.__module__.partition(".")[0] == "modeling_mmer":
                    found.add(value)
    return sorted(found, key=lambda value: value.__qualname__)


def example(of_class: type[BaseException]) -> BaseException:
    """One made of arguments of the types that its `__init__` asks for; a message where it has none of its own."""
    if "__init__" not in vars(of_class):
        return of_class("Why: because.")
    return of_class(**{name: EXAMPLES[kind] for name, kind in get_type_hints(of_class.__init__).items()})


def assert_survives(error: BaseException) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copy = pickle.loads(pickle.dumps(error, protocol))
        assert type(copy) is type(error) and str(copy) == str(error) and copy.args == error.args
        assert vars(copy) == vars(error)


def test_the_package_has_exceptions():
    names = {of_class.__name__ for of_class in exception_classes()}
    assert {"CorpusError", "DivergedError", "ExampleError", "UtteranceError", "WriteError"} <= names


@pytest.mark.parametrize("of_class", exception_classes(), ids=lambda of_class: of_class.__name__)
def test_an_exception_survives_pickling(of_class):
    assert_survives(example(of_class))


def test_what_a_diverged_run_was_at_can_be_asked():
    error = DivergedError("The loss is nan", 7, ["a", "b"])
    assert (error.what, error.step, error.utterances) == ("The loss is nan", 7, ["a", "b"])


@pytest.mark.parametrize("wrong", [{"dropout": 2.0}, {"hidden_size": "wide"}])
def test_the_errors_of_a_wrong_config_survive_pickling(wrong):
    with pytest.raises(Exception, match=next(iter(wrong))) as raised:
        MMERConfig(**wrong)
    assert_survives(raised.value)
