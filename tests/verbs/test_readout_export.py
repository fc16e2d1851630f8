"""Readouts for other programs, read back by readers that owe persona nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import persona
from persona.errors import Refusal, UsageError
from persona.readout.export import file_names
from persona.readout.gguf import control_vector
from persona.readout.select import select
from tests.models import tiny_llama
from tests.readout.handmade import CONCEPTS, handmade, written
from tests.readout.made import by_chance

pytestmark = pytest.mark.usefixtures("one_thread")  # small models run fastest on one


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "feelings", handmade(layers=(0, 1, 3)))


def test_the_pair_for_vllm(folder: Path, tmp_path: Path) -> None:
    """Read as the design page says: directions by layer and concept, found through two variables."""
    done = persona.readout_export(None, folder, tmp_path / "out", format="vllm")
    found = dict(line.split("=", 1) for line in done.paste)
    manifest = json.loads(Path(found["VLLM_READOUT_MANIFEST"]).read_text())
    tensors = load_file(found["VLLM_READOUT_VECTORS"])
    assert sorted(tensors) == sorted(f"layer_{layer}.vectors" for layer in manifest["layers"])
    wanted = handmade(layers=(0, 1, 3))
    assert manifest["concepts"] == list(CONCEPTS)
    for layer in manifest["layers"]:
        directions = tensors[f"layer_{layer}.vectors"]
        assert directions.shape == (len(manifest["concepts"]), 32)
        assert directions.dtype == np.float32
        np.testing.assert_array_equal(directions, wanted.vectors[layer])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "vectors.safetensors"]


def test_a_part_of_it(folder: Path, tmp_path: Path) -> None:
    """Numbers of the manifest follow the concepts and layers that are chosen."""
    persona.readout_export(None, folder, tmp_path / "out", format="vllm", concepts=["doubt", "calm"], layers=[3, 0])
    manifest, whole = json.loads((tmp_path / "out" / "manifest.json").read_text()), handmade(layers=(0, 1, 3))
    assert (manifest["concepts"], manifest["layers"]) == (["doubt", "calm"], [0, 3])
    auc = whole.about["auc"]
    assert manifest["auc"] == [[auc[2][0], auc[2][2]], [auc[1][0], auc[1][2]]]
    assert list(manifest["counts"]) == ["doubt", "calm"]
    tensors = load_file(tmp_path / "out" / "vectors.safetensors")
    np.testing.assert_array_equal(tensors["layer_3.vectors"], whole.vectors[3][[2, 1]])


def directions(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a GGUF file, by the package of those who made the format."""
    for tensor in gguf.GGUFReader(path).tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        yield tensor.name, np.array(tensor.data)


@pytest.mark.parametrize("scale", ["unit", "raw"])
def test_a_control_vector_for_each_concept(folder: Path, tmp_path: Path, scale: str) -> None:
    done = persona.readout_export(None, folder, tmp_path / "out", format="gguf", scale=scale)
    assert done.notes == ("layer 0 is left out: llama.cpp cannot steer it",)
    assert done.layers == (1, 3)
    readout = handmade(layers=(0, 1, 3))
    for row, concept in enumerate(CONCEPTS):
        path = tmp_path / "out" / f"{concept}.gguf"
        fields = gguf.GGUFReader(path).fields
        assert fields["general.architecture"].contents() == "controlvector"
        assert fields["controlvector.model_hint"].contents() == "unknown"
        assert fields["controlvector.layer_count"].contents() == 2
        found = dict(directions(path))
        assert list(found) == ["direction.1", "direction.3"]
        for place, layer in ((1, 1), (2, 3)):
            length = readout.about["norms"][row][place] if scale == "raw" else 1.0
            np.testing.assert_allclose(found[f"direction.{layer}"], readout.vectors[layer][row] * length, rtol=1e-6)
    assert done.paste == tuple(f"--control-vector {tmp_path / 'out' / name}.gguf" for name in CONCEPTS)


@given(st.dictionaries(st.integers(1, 200), st.integers(0, 2**31), min_size=1, max_size=5), st.integers(1, 70))
def test_gguf_of_any_size(tmp_path_factory: pytest.TempPathFactory, seeds: dict[int, int], width: int) -> None:
    rows = {layer: np.random.default_rng(seed).standard_normal(width, np.float32) for layer, seed in seeds.items()}
    path = tmp_path_factory.mktemp("gguf") / "x.gguf"
    path.write_bytes(control_vector(rows, "llama"))
    found = dict(directions(path))
    assert list(found) == [f"direction.{layer}" for layer in sorted(rows)]
    for layer, row in rows.items():
        np.testing.assert_array_equal(found[f"direction.{layer}"], row)


def test_the_layer_is_the_block(tmp_path: Path) -> None:
    """Added to the output of block N alone, as llama.cpp adds ``direction.N``, it moves our projection at layer N by its
    strength, and nothing before. The witnesses are the inputs of the next block, and of the norm behind the last one."""
    readout = handmade(("warmth",), (1, 3), seed=3)
    written(tmp_path / "one", readout)
    persona.readout_export(None, tmp_path / "one", tmp_path / "out", format="gguf")
    model = tiny_llama(torch.float32, num_hidden_layers=4).eval()
    before = streams(model)
    for name, row in directions(tmp_path / "out" / "warmth.gguf"):
        block = int(name.partition(".")[2])
        push = torch.from_numpy(row) * 4.0
        handle = model.model.layers[block].register_forward_hook(lambda _m, _a, out, push=push: out + push)
        after = streams(model)
        handle.remove()
        assert all(torch.equal(new, old) for new, old in zip(after[:block], before, strict=False))
        change = (after[block] - before[block]) @ torch.from_numpy(readout.vectors[block][0])
        torch.testing.assert_close(change, torch.full_like(change, 4.0), rtol=1e-4, atol=1e-4)


def streams(model: torch.nn.Module) -> list[torch.Tensor]:
    """What every block hands on."""
    taken: list[torch.Tensor] = []
    receivers = [*model.model.layers[1:], model.model.norm]
    handles = [
        one.register_forward_pre_hook(lambda _m, args: taken.append(args[0].detach().clone())) for one in receivers
    ]
    model(torch.tensor([[5, 17, 42, 7]]))
    for handle in handles:
        handle.remove()
    return taken


def test_arrays(folder: Path, tmp_path: Path) -> None:
    persona.readout_export(None, folder, tmp_path / "x.npz", format="npz", layers=[1, 3], scale="raw")
    readout = handmade(layers=(0, 1, 3))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as arrays:
        assert arrays["concepts"].tolist() == list(CONCEPTS)
        assert arrays["layers"].tolist() == [1, 3]
        norms = np.array(readout.about["norms"])
        np.testing.assert_allclose(arrays["layer_3"], readout.vectors[3] * norms[:, 2, None], rtol=1e-6)
        assert sorted(arrays) == ["concepts", "layer_1", "layer_3", "layers"]


def test_of_a_recipe(repo: persona.Repository, tmp_path: Path) -> None:
    """By name, at a revision, and with the architecture of its base."""
    persona.commit_readout(repo, written(tmp_path / "feelings"), author="Test")
    persona.commit_readout(repo, written(tmp_path / "other", handmade(seed=1)), name="feelings", author="Test")
    persona.readout_export(repo, "feelings", tmp_path / "now", format="gguf")
    persona.readout_export(repo, "feelings@HEAD~1", tmp_path / "then", format="gguf")
    for at, seed in (("now", 1), ("then", 0)):
        path = tmp_path / at / "calm.gguf"
        np.testing.assert_array_equal(dict(directions(path))["direction.1"], handmade(seed=seed).vectors[1][1])
        assert gguf.GGUFReader(path).fields["controlvector.model_hint"].contents() == "llama"


def test_a_folder_in_a_repository(repo: persona.Repository, tmp_path: Path) -> None:
    """Is read whatever state the recipe is in; a name is the recipe's before it is a folder's."""
    persona.commit_readout(repo, written(tmp_path / "feelings"), author="Test")
    written(repo.root / "out" / "feelings", handmade(("pride",), seed=1))
    written(repo.root / "feelings", handmade(("hope",), seed=2))
    written(repo.root / "alone", handmade(("awe",), seed=3))
    for said, concepts in {
        "feelings": CONCEPTS, "out/feelings": ("pride",), "./feelings": ("hope",), "alone": ("awe",),
    }.items():  # fmt: skip
        done = persona.readout_export(repo, said, tmp_path / "x.npz", format="npz", replace=True, cwd=repo.root)
        assert done.concepts == concepts
    repo.recipe_path.write_text("[nonsense")
    done = persona.readout_export(repo, "out/feelings", tmp_path / "y.npz", format="npz", cwd=repo.root)
    assert done.concepts == ("pride",)
    repo.recipe_path.write_text(repo.head_text())
    with pytest.raises(UsageError, match="'feeling' is neither a readout of the recipe nor a readout folder"):
        persona.readout_export(repo, "feeling", tmp_path / "z.npz", format="npz", cwd=repo.root)


def test_what_is_there_stays(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    persona.readout_export(None, folder, out, format="gguf")
    with pytest.raises(Refusal, match="already exists"):
        persona.readout_export(None, folder, out, format="vllm")
    persona.readout_export(None, folder, out, format="vllm", replace=True)
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "vectors.safetensors"]
    (out / "mine.txt").write_text("mine")
    with pytest.raises(Refusal, match=r"contains mine.txt, which is not from an export"):
        persona.readout_export(None, folder, out, format="vllm", replace=True)
    with pytest.raises(Refusal, match="is a folder"):
        persona.readout_export(None, folder, out, format="npz", replace=True)
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(Refusal, match=r"a.npz already exists"):
        persona.readout_export(None, folder, tmp_path / "a.npz", format="npz")
    assert (tmp_path / "a.npz").read_text() == "mine"


def test_what_cannot_be_exported(folder: Path, tmp_path: Path) -> None:
    def refused(match: str, readout: Path = folder, **options: object) -> None:
        with pytest.raises(UsageError, match=match):
            persona.readout_export(None, readout, tmp_path / "out", **options)  # type: ignore[arg-type]
        assert not (tmp_path / "out").exists()

    refused("llama.cpp cannot steer layer 0$", format="gguf", layers=[0, 1])
    refused("the readout's only layer", written(tmp_path / "flat", handmade(layers=(0,))), format="gguf")
    refused("has no concept 'warmt'", format="npz", concepts=["warmt"])
    refused("has no layer 2", format="npz", layers=[2])
    refused("unknown format 'onnx'", format="onnx")
    refused("unknown scale 'long'", format="npz", scale="long")
    refused("directions of length 1", format="vllm", scale="raw")
    bare = written(tmp_path / "bare", replace(handmade(), about={"norms": [[1], [2]]}))
    refused("has no 'norms'", bare, format="npz", scale="raw")


def test_a_part_of_nothing_is_all() -> None:
    whole = handmade()
    same = select(whole)
    assert (same.concepts, same.layers, dict(same.about)) == (whole.concepts, whole.layers, dict(whole.about))


def test_best_layers_follow_their_concepts() -> None:
    whole = by_chance((0, 1, 2), ("a", "b", "c"))
    whole = replace(whole, about={**whole.about, "best": [2, None, 0]})
    assert select(whole, ["c", "a"]).about["best"] == [0, 2]
    assert select(whole, layers=[1]).about["best"] == [2, None, 0]


def test_names_of_files() -> None:
    names = file_names(("a/b", "a b", "A-B", "../..", "ü", "..."))
    assert names == {"a/b": "a-b", "a b": "a-b-2", "A-B": "A-B-3", "../..": "concept", "ü": "ü", "...": "concept-2"}
