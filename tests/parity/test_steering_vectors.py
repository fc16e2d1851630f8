"""Directions beside those of the package steering-vectors, from the same model, pairs and site.

It needs transformers below 5, so it runs in an environment of its own: ``PERSONA_STEERING_VECTORS`` names the Python of one
that has ``steering-vectors`` and ``scikit-learn``. Its layers are 0-based indices of decoder blocks, as ours are; it reads
one token of a text, the last real one unless told otherwise, which is our pooling "last"; texts are paired.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from persona.readout.folder import read_readout
from persona.readout.labels import labels_of
from persona.readout.pairs import read_pairs
from persona.readout.split import held_out
from persona.verbs.readout.train import readout_train
from tests.readout.small import MARK, examples, small_model, texts, written

PEER = os.environ.get("PERSONA_STEERING_VECTORS")
pytestmark = pytest.mark.skipif(
    PEER is None, reason="PERSONA_STEERING_VECTORS names no Python that has steering-vectors"
)

THEIRS = """
import json, sys
import torch
from safetensors.torch import save_file
from steering_vectors import logistic_aggregator, mean_aggregator, pca_aggregator, train_steering_vector
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

folder, samples, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32)
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
samples = [tuple(pair) for pair in json.load(open(samples))]
found = {}
for name, aggregator in (("mean", mean_aggregator()), ("pca", pca_aggregator()), ("logistic", logistic_aggregator())):
    vector = train_steering_vector(model, tokenizer, samples, aggregator=aggregator, batch_size=4)
    for layer, direction in vector.layer_activations.items():
        found[f"{name}.{layer}"] = direction.contiguous()
save_file(found, out)
"""


def test_directions_are_theirs(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    ours = texts(40, 1, "w1", least=3, most=25)
    theirs = texts(40, 2, MARK, least=3, most=25)
    pairs = written(tmp_path / "pairs.jsonl", examples("it", ours, theirs, paired=True))
    (labels,) = labels_of(read_pairs(pairs))
    trained = labels.without(held_out([labels]))
    (tmp_path / "samples.json").write_text(json.dumps(trained.pairs))
    command = [
        str(PEER),
        "-c",
        THEIRS,
        str(model),
        str(tmp_path / "samples.json"),
        str(tmp_path / "theirs.safetensors"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    wanted = load_file(tmp_path / "theirs.safetensors")
    for aggregator in ("mean", "pca", "logistic"):
        out = tmp_path / aggregator
        readout_train(pairs, out, model, layers="0-3", aggregator=aggregator, pooling="last")
        found = read_readout(out)
        for layer in range(4):
            direction = wanted[f"{aggregator}.{layer}"].astype(np.float64)
            cosine = found.vectors[layer][0] @ direction / np.linalg.norm(direction)
            assert cosine > 0.999, (aggregator, layer, cosine)
            if aggregator == "mean":
                assert found.about["norms"][0][layer] == pytest.approx(np.linalg.norm(direction), rel=1e-4)
