"""Processes without the package and without a network, which load a saved checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import real_input_processor

LOADED = """
import json, sys, torch
from safetensors.torch import save_file
from transformers import (AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForSequenceClassification,
    AutoProcessor, pipeline)
folder, inputs = sys.argv[1], json.loads(sys.argv[2])
trust = {"trust_remote_code": True}
assert AutoConfig.from_pretrained(folder, **trust).model_type == "mmer"
processor = AutoProcessor.from_pretrained(folder, **trust)
batch = processor(audio=[i.get("audio") for i in inputs], text=[i.get("text") for i in inputs])
found = {}
for auto_class in (AutoModelForAudioClassification, AutoModelForSequenceClassification, AutoModel):
    model = auto_class.from_pretrained(folder, **trust).eval()
    with torch.no_grad():
        output = model(**batch)
    found[auto_class.__name__] = [type(model).__name__, (output.logits if "logits" in output else
        output.last_hidden_state[:, 0]).tolist()]
pipe = pipeline(model=folder, **trust)
found["pipeline"] = [type(pipe).__name__, pipe(inputs, batch_size=2)]
pipe.save_pretrained("again")
again = pipeline("multimodal-emotion-recognition", model="again", **trust)
found["again"] = [type(again).__name__, again(inputs)]
assert "modeling_mmer" not in sys.modules
print(json.dumps(found))
"""


# The package may be installed in this environment: a finder that refuses it stands in for one where it is not.
REFUSE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'modeling_mmer': raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
"""


def elsewhere(script: str, *arguments: str, folder: Path) -> str:
    """What a script prints in a fresh process without the package, offline, in `folder`."""
    hidden = folder / "hidden"
    hidden.mkdir(parents=True, exist_ok=True)
    (hidden / "sitecustomize.py").write_text(REFUSE)
    environment = os.environ | {"PYTHONPATH": str(hidden), "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def saved(model, folder) -> Path:
    model.save_pretrained(folder)
    real_input_processor().save_pretrained(folder)
    return folder
