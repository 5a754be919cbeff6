"""The common test suites of transformers, run on our config, models and processor.

They come from the source distribution of the installed transformers, which `make test` downloads. It lacks the
subfolders of `tests/`; small stand-ins replace the four names that the suites import from them. Cases that do not apply
are skipped by name, with a reason, in `NOT_OURS`. `test_pipeline_mixin` is not used, because its tests are in such a
subfolder and for tasks of transformers; see test_pipeline.py.
"""

import importlib
import importlib.metadata
import os
import sys
import types
import unittest

import pytest
from conftest import labels, raw_batch, real_input_processor, tiny_config

from modeling_mmer import MMERConfig, MMERForEmotionRecognition, MMERModel, MMERProcessor

VERSION = importlib.metadata.version("transformers")
SUITES = os.environ.get("TRANSFORMERS_SUITES", os.path.join(sys.prefix, f"transformers-{VERSION}", "tests"))
if not os.path.isfile(os.path.join(SUITES, "test_modeling_common.py")):
    pytest.skip(f"needs the source distribution of transformers {VERSION} (make test)", allow_module_level=True)
pytest.importorskip("parameterized", reason="transformers' suites need it")

CONFIG_ARGUMENTS = {"return_dict": False, "output_hidden_states": True, "dtype": "float16"}


def suite(name: str):
    """A module of the suites, imported as part of a package of our own: theirs is called `tests`, as ours is."""
    package = "transformers_suites"
    if package not in sys.modules:
        modules = {
            package: {"__path__": [SUITES]},
            f"{package}.exporters": {"__path__": []},
            f"{package}.exporters.test_export": {"ExportTesterMixin": type("ExportTesterMixin", (), {})},
            f"{package}.generation": {"__path__": []},
            f"{package}.generation.test_utils": {"GenerationTesterMixin": type("GenerationTesterMixin", (), {})},
            f"{package}.utils": {"__path__": []},
            f"{package}.utils.test_configuration_utils": {"config_common_kwargs": CONFIG_ARGUMENTS},
            "fetch_hub_objects_for_ci": {"url_to_local_path": lambda url: url},
        }
        for module, content in modules.items():
            sys.modules[module] = types.ModuleType(module)
            vars(sys.modules[module]).update(content)
    return importlib.import_module(f"{package}.{name}")


common, configuration, processing = map(
    suite, ("test_modeling_common", "test_configuration_common", "test_processing_common")
)


# Suites and our classes meet by name: as if ours were among transformers' own.
common.MODEL_MAPPING_NAMES["mmer"] = "MMERModel"

OWN_LAYERS = "looks at the first layer, one of a frozen encoder that runs without gradients; see test_transformer.py"
REFUSED = "wants missing weights reported; ours are an error, so that nothing is ever random; see test_checkpoints.py"
NOT_OURS = {
    "test_training_gradient_checkpointing": OWN_LAYERS,
    "test_training_gradient_checkpointing_use_reentrant_false": OWN_LAYERS,
    "test_training_gradient_checkpointing_use_reentrant_true": OWN_LAYERS,
    "test_correct_missing_keys": REFUSED,
    "test_model_weights_reload_no_missing_tied_weights": REFUSED,
    "test_base_model_prefix_loads_base_weights": REFUSED,
    "test_subprocessor_defaults_3_audio": "wants log-mels padded to 30 s; ours are the clip's own frames",
}


def skip_what_is_not_ours(case: unittest.TestCase):
    if case._testMethodName in NOT_OURS:
        case.skipTest(NOT_OURS[case._testMethodName])


class ModelTester:
    """What the suite asks of a model: its config and a batch, whose rows are of one length."""

    batch_size = 3
    hidden_size, num_hidden_layers, num_attention_heads = 16, 2, 2
    seq_length = 1 + 5 + 1 + 7  # CLS, 40 frames → 20 states → 5 tokens, SEP, 7 tokens

    def __init__(self, parent):
        self.parent = parent
        self.is_training = True

    def get_config(self):
        return tiny_config(audio_context="trimmed", mask_ratio=0)  # a random mask would tell two runs apart

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), raw_batch((40, 40, 40), (7, 7, 7))


class ConfigTest(unittest.TestCase):
    def setUp(self):
        self.model_tester = ModelTester(self)

    def test_config(self):
        tester = configuration.ConfigTester(
            self, config_class=MMERConfig, has_text_modality=False, common_properties=["hidden_size"]
        )
        tester.run_common_tests()


class ModelTest(common.ModelTesterMixin, unittest.TestCase):
    all_model_classes = (MMERModel, MMERForEmotionRecognition)
    _is_composite = True
    test_resize_embeddings = False  # the vocabulary is a frozen encoder's

    def setUp(self):
        skip_what_is_not_ours(self)
        self.model_tester = ModelTester(self)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class)
        if return_labels and model_class is MMERForEmotionRecognition:
            inputs["labels"] = labels(self.model_tester.batch_size)
        return inputs


class ProcessorTest(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = MMERProcessor
    audio_input_name = "input_features"

    def setUp(self):
        skip_what_is_not_ours(self)

    @classmethod
    def _setup_feature_extractor(cls):
        return real_input_processor().feature_extractor

    @classmethod
    def _setup_tokenizer(cls):
        return real_input_processor().tokenizer
