"""Ids are what ``docs/format.md`` says, computed here by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from blake3 import blake3

from persona.ids import CommitId, blob_id, object_digest, tensor_id
from persona.store.objects import canonical, encode


def test_domain_lines() -> None:
    data = bytes(range(12))
    assert blob_id(data) == blake3(b"persona blob\n" + data).hexdigest()
    assert tensor_id("BF16", (2, 3), [data]) == blake3(b"persona tensor\nBF16 [2,3]\n" + data).hexdigest()
    assert tensor_id("F32", (), [data[:4]]) == blake3(b"persona tensor\nF32 []\n" + data[:4]).hexdigest()
    assert tensor_id("F32", (0, 7), []) == blake3(b"persona tensor\nF32 [0,7]\n").hexdigest()
    assert object_digest(b"{}") == blake3(b"persona object\n{}").hexdigest()


def test_pieces_and_kinds_of_items_do_not_matter() -> None:
    data = np.arange(10, dtype=np.uint16)
    one = tensor_id("BF16", (10,), [data])
    assert one == tensor_id("BF16", (10,), [data[:3], data[3:].tobytes()])
    assert one == tensor_id("BF16", (10,), [data], threads=True)
    assert one != tensor_id("F16", (10,), [data])
    assert one != tensor_id("BF16", (2, 5), [data])


def test_canonical_json() -> None:
    value = {"b": [1, 1.0, -0.5, 1e-05], "a": {"z": True, "é\n": None}}
    assert canonical(value) == '{"a":{"z":true,"é\\n":null},"b":[1,1.0,-0.5,1e-05]}'.encode()
    assert json.loads(canonical(value)) == value
    assert encode("text", {"text": "x"}) == b'{"kind":"text","text":"x","version":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical(float("nan"))


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "A" * 64, "a" * 63, "a" * 65])
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        CommitId(text)


FORKED = """
import os
from persona.ids import tensor_id
large = bytes(1 << 24)
wanted = tensor_id("U8", (len(large),), [large], threads=True)
child = os.fork()
if child == 0:
    os._exit(tensor_id("U8", (len(large),), [large], threads=True) != wanted)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_does_not_wait_for_threads_that_it_has_not() -> None:
    """What a DataLoader's worker would do; it hung, where the parent had hashed anything large before."""
    assert subprocess.run([sys.executable, "-c", FORKED], timeout=60, check=False).returncode == 0
