"""What ``gc`` plans, for small repositories made by hand: each rule alone, and the bytes to the last one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from persona.errors import Damaged
from persona.ids import BlobId, ObjectId, TensorId, blob_id, object_digest, tensor_id
from persona.maintenance.check import RepositoryFiles
from persona.maintenance.gc_plan import GcPlan, plan, size_of
from persona.progress import SILENT
from persona.store.objects import canonical
from persona.store.packs import Volume, open_pack
from persona.store.packwriter import Incoming
from persona.store.tensors import TensorStore

NOW = datetime(2026, 11, 30, tzinfo=UTC)
FISHER = {"examples": 1, "tokens": 1, "seed": 0, "data": []}
WEIGHT = ["0" * 64, "F32", [1, 2]]
"""A tensor as objects name it."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no codec makes smaller."""
    return np.random.default_rng(seed).bytes(size)


def tensor(seed: int, changed: int = 0, base: TensorId | None = None) -> Incoming:
    """4,000 bytes; with ``changed``, the same but for so many of the 1,000 entries."""
    values = np.random.default_rng(seed).standard_normal(1000).astype(np.float32)
    values[:changed] += 1
    data = values.view(np.uint8)
    return Incoming(tensor_id("F32", (1000,), [data]), "F32", (1000,), data, base)


class Hand:
    """A ``.persona`` made by hand, with one commit on main and an operation that made it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = RepositoryFiles(root / ".persona", "1")
        self.folder = self.files.folder
        self.base = self.put("base", tensors={}, files={}, tied={})
        self.recipe = self.put_recipe()
        self.text = self.put("text", text="")
        self.commit = self.put_commit()
        self.write("format", "1\n")
        self.write("HEAD", "ref: refs/heads/main\n")
        self.write("refs/heads/main", self.commit)
        self.operate()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def put(self, kind: str, **fields: object) -> ObjectId:
        return self.files.objects.put(kind, fields)

    def put_vector(self, **fields: object) -> ObjectId:
        form = "derived" if "terms" in fields else "dense"
        nothing = {"tensors": {}, "low_rank": {}, "files": {}, "gone": [], "config": {}}
        return self.put("vector", **{"base": self.base, "form": form} | nothing | fields)

    def put_recipe(self, *vectors: str, **fields: object) -> ObjectId:
        entries = [
            {"name": f"v{at}", "id": name, "alpha": 1, "node": None, "only": [], "except": []}
            for at, name in enumerate(vectors)
        ]
        merge = {"base_name": "base", "method": "linear", "scale": 1, "parameters": {}}
        return self.put("recipe", **{"base": self.base, "vectors": entries} | merge | fields)

    def put_commit(self, *parents: str, recipe: str = "", text: str = "", **fields: object) -> ObjectId:
        facts = {
            "author": "x",
            "time": "2026-11-01T00:00:00+00:00",
            "message": "m",
            "run": {},
            "parents": list(parents),
        }
        return self.put("commit", recipe=recipe or self.recipe, text=text or self.text, **facts | fields)

    def operate(self, time: str = "2026-11-01T00:00:00+00:00", parent: str | None = None, **refs: str) -> ObjectId:
        """Log an operation that moved refs away from commits."""
        changes = {f"refs/heads/{name}": [commit, None] for name, commit in refs.items()}
        name = self.put(
            "operation", parent=parent, time=time, command="c", refs=changes, recipe=None, undoes=None, redoes=None
        )
        self.write("op/head", name)
        self.write("op/applied", name)
        return name

    def idle(self, count: int, parent: str | None) -> ObjectId:
        """Log operations that mention nothing, long ago."""
        for number in range(count):
            parent = self.operate(f"2026-11-01T00:00:{number:02}+00:00", parent)
        return ObjectId(parent or "")

    def keep(self, *names: str) -> None:
        """Name ids, as a file of a later version might."""
        self.write("KEPT", "\n".join(names))

    def pack(
        self, tensors: Iterable[Incoming] = (), blobs: Iterable[bytes] = (), also: Iterable[Incoming] = ()
    ) -> Path:
        """A new pack, even if its contents are stored already; ``also`` can be bases but are not in it."""
        scratch = self.root / f"scratch-{len(list(self.root.iterdir()))}"
        store = TensorStore(scratch / "packs", scratch / "tmp")
        paths = []
        for group, parts in ((also, ()), (tensors, blobs)):
            with store.writer() as writer, SILENT.task("", 0) as task:
                writer.add_tensors(group, task)
                for blob in parts:
                    writer.add_blob(blob)
                paths += [scratch / "packs" / name for name in writer.finish().names]
        self.files.packs.mkdir(exist_ok=True)
        return paths[-1].rename(self.files.packs / paths[-1].name)

    def adopt(self, *tensors: Incoming, reference: bool = False, name: str = "model") -> Path:
        """A safetensors file in the store, or outside; its list."""
        outside = self.root / f"{name}.safetensors"
        save_file({f"t{number}": one.data.view(np.float32) for number, one in enumerate(tensors)}, outside)
        store = TensorStore(self.files.packs, self.files.tmp)
        with SILENT.task("", 0) as task:
            kept = store.adopt_safetensors(outside, task, keep="reference" if reference else "copy")
        return (self.files.packs / kept.name).with_suffix(".json")

    def path(self, name: ObjectId) -> Path:
        return self.files.objects.path(name)

    def plan(self, grace: float = 0, recipe: str | None = None) -> GcPlan:
        files = RepositoryFiles(self.folder, "1", recipe)
        return plan(files, NOW, timedelta(days=grace))


@pytest.fixture
def hand(tmp_path: Path) -> Hand:
    return Hand(tmp_path)


def blob_ids(path: Path) -> list[BlobId]:
    return list(open_pack(path).blobs)


def sizes(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def test_what_a_ref_reaches_stays(hand: Hand) -> None:
    assert hand.plan() == GcPlan(kept_objects=5)
    vector = hand.put_vector()
    child = hand.put_commit(hand.commit, recipe=hand.put_recipe(vector), text=hand.put("text", text="child"))
    assert hand.plan().phases != ()
    hand.write("refs/heads/main", child)
    assert hand.plan() == GcPlan(kept_objects=9)


def test_the_recipe_as_it_stands_keeps_what_it_names(hand: Hand) -> None:
    vector = hand.put_vector()
    assert hand.plan().phases == ((vector,),)
    assert hand.plan(recipe=f'id = "{vector[:12]}"') == GcPlan(kept_objects=6)


def test_referring_objects_go_first(hand: Hand) -> None:
    """Damaged ones and unknown kinds, commits from the newest, then what they need, each after all that need it."""
    base = hand.put("base", tensors={"b": WEIGHT}, files={}, tied={"a": "b"})
    vector = hand.put_vector(base=base)
    baked_from = hand.put_recipe(vector, base=base)
    baked = hand.put_vector(base=base, baked_from=baked_from)
    derived = hand.put_vector(base=base, terms=[[1, baked, "b"], [1, vector, "v"]])
    node = hand.put("node", name="n", text="t")
    readout = hand.put(
        "readout", base=base, concepts=["calm"], layers=[0], tensors={"layer_0.vectors": WEIGHT}, about={}
    )
    fisher = hand.put("fisher", base=base, recipe=baked_from, tensors={}, **FISHER)
    graph = hand.put("graph", nodes={"n": node}, source={"kind": "markdown", "place": "notes"})
    recipe = hand.put_recipe(derived, base=base, readouts=[{"name": "mood", "id": readout}])
    text = hand.put("text", text="old")
    parent = hand.put_commit(recipe=recipe, text=text, graph=graph)
    child = hand.put_commit(parent, recipe=recipe, text=text)
    grandchild = hand.put_commit(child, recipe=recipe, text=text)
    evaluation = hand.put(
        "evaluation", build="0" * 64, suite="s", suite_digest="1" * 64, seed=0, limit=None,
        time="2026-11-01T00:00:00+00:00", made={}, figures=[],
    )  # fmt: skip
    rehearsal = hand.put("rehearsal", of=vector)
    bad = hand.put("node", name="bad", text="t")
    hand.path(bad).write_text("{}")
    todo = hand.plan()
    assert todo.phases == (
        tuple(sorted([rehearsal, bad])),
        (grandchild, child, parent),
        (text,),
        (fisher,),
        (recipe,),
        (derived,),
        (baked,),
        (baked_from,),
        (vector,),
        (readout,),
        (base,),
        (graph,),
        (node,),
        (evaluation,),
    )
    deleted = [hand.path(name) for phase in todo.phases for name in phase]
    assert (todo.freed, todo.kept_objects) == (sizes(*deleted), 5)


def test_independent_objects_go_together_by_id(hand: Hand) -> None:
    vectors = [hand.put_vector(gone=[f"t{number}"]) for number in range(4)]
    recipes = [hand.put_recipe(*vectors, base_name=str(number)) for number in range(3)]
    assert hand.plan().phases == (tuple(sorted(recipes)), tuple(sorted(vectors)))


def test_operations_stay_and_remember_for_a_while(hand: Hand) -> None:
    old, young = hand.put_commit(message="old"), hand.put_commit(message="young")
    first = hand.operate("2026-11-15T23:59:59+00:00", b=old)
    second = hand.operate("2026-11-16T00:00:01+00:00", first, b=young)
    assert hand.plan(14).phases == (), "they are among the last ten"
    hand.idle(9, second)
    assert hand.plan(14).phases == ((old,),)
    hand.idle(10, second)
    assert hand.plan(0).phases == (tuple(sorted([old, young])),)
    assert hand.plan(14).phases == ((old,),)
    assert hand.plan(15).phases == ()
    assert hand.plan(14).kept_objects == 18, "base, recipe, text, two commits, and every operation"


BEFORE, AFTER = "2026-10-01T00:00:00+00:00", "2026-11-29T00:00:00+00:00"


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([BEFORE, "1970-01-01T00:00:00+00:00", BEFORE], [False, False, False]),  # as young as the next, which is old
        ([BEFORE, "1970-01-01T00:00:00+00:00", AFTER], [False, True, True]),
        ([BEFORE, "1970-01-01T00:00:00+00:00"], [False, True]),  # nothing says how old the second is
        (["1970-01-01T00:00:00+00:00", AFTER], [False, True]),
        ([BEFORE, "2099-01-01T00:00:00+00:00", BEFORE], [False, False, False]),  # it does not make the third young
        ([BEFORE, "2099-01-01T00:00:00+00:00", AFTER], [False, True, True]),
        (["2099-01-01T00:00:00+00:00", BEFORE], [False, False]),
        ([BEFORE, "2099-01-01T00:00:00+00:00"], [False, True]),
        ([AFTER, BEFORE], [True, True]),  # it came after, so it is young as well
        ([AFTER, "1970-01-01T00:00:00+00:00", BEFORE], [True, True, True]),
    ],
)
def test_operations_are_as_young_as_their_order_says(hand: Hand, times: list[str], kept: list[bool]) -> None:
    commits, parent = [], None
    for number, time in enumerate(times):
        commits.append(hand.put_commit(message=str(number)))
        parent = hand.operate(time, parent, b=commits[-1])
    (hand.folder / "op/head").write_text(hand.idle(1, None))  # all of the ten newest operations mention nothing
    (hand.folder / "op/applied").write_text((hand.folder / "op/head").read_text())
    dead = {name for phase in hand.plan(14).phases for name in phase}
    assert [commit not in dead for commit in commits] == kept
    assert {name for phase in hand.plan(0).phases for name in phase} == set(commits)


def test_the_last_ten_operations_remember_whatever_the_clock_says(hand: Hand) -> None:
    """All of them at 1970: the clock was wrong from the beginning, and is right now."""
    commits, parent = [], None
    for number in range(12):
        commits.append(hand.put_commit(message=str(number)))
        parent = hand.operate("1970-01-01T00:00:00+00:00", parent, b=commits[-1])
    assert set(hand.plan(14).phases[0]) == set(commits[:2])
    assert set(hand.plan(0).phases[0]) == set(commits)


def test_what_only_an_operation_mentions_does_not_keep_weights(hand: Hand) -> None:
    path = hand.pack(blobs=[noise(100)])
    (blob,) = blob_ids(path)
    lost = hand.put_commit(run={"log": blob})
    mentioning = hand.operate("2026-11-20T00:00:00+00:00", b=lost, c=blob)
    assert hand.plan(14) == GcPlan(kept_objects=7, kept_bytes=100)
    hand.write("op/head", hand.idle(10, mentioning))
    assert hand.plan(1).files == (path,)


def test_objects_of_a_newer_version_stay(hand: Hand) -> None:
    path = hand.pack(blobs=[noise(100)])
    data = canonical({"kind": "vector", "version": 99, "needs": blob_ids(path)})
    name = ObjectId(object_digest(data))
    hand.path(name).parent.mkdir(exist_ok=True)
    hand.path(name).write_bytes(data)
    assert hand.plan() == GcPlan(kept_objects=6, kept_bytes=100)


def refused(hand: Hand, what: str, grace: float = 0) -> None:
    with pytest.raises(Damaged) as caught:
        hand.plan(grace)
    assert (caught.value.message, caught.value.hint) == (
        f"{what} is damaged or missing, so its references are unknown",
        "Nothing was deleted. Run 'persona fsck' to list all damage; gc works again once it is repaired.",
    )


def test_damage_to_what_is_needed_stops_it(hand: Hand) -> None:
    kinds = {"commit": hand.commit, "recipe": hand.recipe, "text": hand.text, "base": hand.base}
    child = hand.put_commit(hand.commit)
    hand.write("refs/heads/main", child)
    for kind, name in kinds.items():
        data = hand.path(name).read_bytes()
        hand.path(name).write_bytes(b"{}")
        refused(hand, f"{kind} {name[:12]}")
        hand.path(name).unlink()
        refused(hand, f"{kind} {name[:12]}")
        hand.path(name).write_bytes(data)
    assert hand.plan() == GcPlan(kept_objects=6)


def test_damage_to_what_files_point_at_stops_it(hand: Hand) -> None:
    child = hand.put_commit(hand.commit)
    hand.write("refs/tags/v1", child)
    head = ObjectId((hand.folder / "op/head").read_text())
    for name in (child, head):
        data = hand.path(name).read_bytes()
        hand.path(name).unlink()
        refused(hand, f"object {name[:12]}")
        hand.path(name).write_bytes(b"{}")
        refused(hand, f"object {name[:12]}")
        hand.path(name).write_bytes(data)
    assert hand.plan() == GcPlan(kept_objects=6)


def test_damage_to_what_is_only_mentioned_stops_it(hand: Hand) -> None:
    """By an object, by a file, or by the beginning of its id; a missing one may have been collected before."""
    bad = hand.put_vector()
    hand.path(bad).write_bytes(b"{}")
    assert hand.plan().phases == ((bad,),), "nothing needs it"
    hand.keep(bad)
    refused(hand, f"object {bad[:12]}")
    hand.keep()
    mentioning = hand.put_commit(hand.commit, run={"vector": bad}, text=hand.put("text", text=""))
    hand.write("refs/heads/main", mentioning)
    refused(hand, f"object {bad[:12]}")
    prefix = hand.put_commit(hand.commit, text=hand.put("text", text=f'id = "{bad[:12]}"'))
    hand.write("refs/heads/main", prefix)
    refused(hand, f"object {bad[:12]}")
    hand.path(bad).unlink()
    assert hand.plan().phases == ((mentioning,),)


def test_a_young_operation_keeps_only_what_is_still_there(hand: Hand) -> None:
    child = hand.put_commit(recipe=hand.put_recipe(base_name="gone"))
    hand.operate("2026-11-29T00:00:00+00:00", b=child)
    assert hand.plan(14).phases == ()
    hand.path(hand.files.objects.get(child, "commit")["recipe"]).unlink()
    assert hand.plan(14).phases == (), "collected before, when nothing needed it"
    bad = hand.put_commit(message="bad")
    hand.path(bad).write_bytes(b"{}")
    hand.operate("2026-11-29T00:00:00+00:00", b=bad)
    refused(hand, f"object {bad[:12]}", 14)
    assert hand.plan(0).phases == ((bad,), (child,)), "an old operation does not need it"


def test_the_first_of_several_is_named(hand: Hand) -> None:
    names = [hand.put_vector(gone=[f"t{number}"]) for number in range(5)]
    hand.write("refs/heads/main", hand.put_commit(recipe=hand.put_recipe(*names)))
    for name in names[1:]:
        hand.path(name).unlink()
    hand.path(names[0]).write_bytes(b"{}")
    refused(hand, f"vector {min(names)[:12]}")


def test_files_that_cannot_be_read_stop_it(hand: Hand) -> None:
    hand.write("refs/heads/side", "nonsense")
    hand.write("refs/heads/zz", "nonsense")
    with pytest.raises(Damaged) as caught:
        hand.plan()
    assert caught.value.message == "refs/heads/side holds 'nonsense', which is not a commit's id"
    assert caught.value.hint == "Nothing was deleted. Fix this first; 'persona fsck' lists all problems."


def test_packs_without_live_content_go(hand: Hand) -> None:
    dead, live = hand.pack(blobs=[noise(100)]), hand.pack(blobs=[noise(300, 1)])
    hand.keep(*blob_ids(live))
    assert hand.plan() == GcPlan(files=(dead,), freed=sizes(dead), kept_objects=5, kept_bytes=300)


def test_a_pack_is_rewritten_if_less_than_half_is_live(hand: Hand) -> None:
    path = hand.pack(blobs=[noise(100), noise(99, 1), noise(1, 2)])
    hundred, most, little = blob_ids(path)
    hand.keep(hundred)
    assert hand.plan() == GcPlan(kept_objects=5, kept_bytes=100), "half of 200 bytes"
    hand.keep(most)
    todo = hand.plan()
    (repack,) = todo.repacks
    assert (repack.volume.path, repack.wanted, repack.freed) == (path, {most}, 101)
    assert (todo.files, todo.freed, todo.kept_bytes) == ((), 101, 99)
    hand.keep(most, little)
    assert hand.plan() == GcPlan(kept_objects=5, kept_bytes=100)


def test_tensors_and_blobs_count_alike(hand: Hand) -> None:
    one, two = tensor(1), tensor(2)
    path = hand.pack([one, two], [noise(100)])
    parts = open_pack(path).tensors
    hand.keep(one.id, *blob_ids(path))
    assert hand.plan().kept_bytes == parts[one.id].stored + 100
    hand.keep(*blob_ids(path))
    (repack,) = hand.plan().repacks
    assert (repack.wanted, repack.freed) == (frozenset(blob_ids(path)), parts[one.id].stored + parts[two.id].stored)


def test_everything_that_goes_is_counted_once(hand: Hand) -> None:
    dead = [hand.pack(blobs=[noise(100, seed)]) for seed in range(2)]
    rare = [hand.pack(blobs=[noise(200, seed), noise(10, seed + 1)]) for seed in (2, 4)]
    listing = hand.adopt(tensor(1))
    vector = hand.put_vector()
    junk = hand.write("tmp/pack.tmp-0123456789ab", "half")
    hand.keep(*(blob_ids(path)[1] for path in rare))
    todo = hand.plan()
    data = listing.with_suffix(".safetensors")
    assert todo.phases == ((vector,),)
    assert sorted(todo.files) == sorted([*dead, listing, data])
    assert [repack.volume.path for repack in todo.repacks] == sorted(rare)
    assert todo.freed == sizes(*dead, listing, data, hand.path(vector), junk) + 2 * 200


def test_a_safetensors_file_goes_whole_or_not_at_all(hand: Hand) -> None:
    small = tensor(0)
    many = [tensor(seed) for seed in range(1, 4)]
    listing = hand.adopt(small, *many)
    hand.keep(small.id)
    assert hand.plan() == GcPlan(kept_objects=5, kept_bytes=4000), "a quarter is live"
    hand.keep()
    data = listing.with_suffix(".safetensors")
    todo = hand.plan()
    assert todo.files == (listing, data), "the list first: a file without one is not used"
    assert todo.freed == sizes(listing, data)


def test_a_file_outside_belongs_to_its_user(hand: Hand) -> None:
    listing = hand.adopt(tensor(0), reference=True)
    hand.keep(tensor(0).id)
    assert hand.plan() == GcPlan(kept_objects=5), "its bytes are not the repository's"
    hand.keep()
    assert hand.plan() == GcPlan(files=(listing,), freed=sizes(listing), kept_objects=5)


def test_loose_files_of_killed_commands_go(hand: Hand) -> None:
    gone = [hand.write(f"packs/{name}", "x" * 10) for name in ("ab.safetensors", "ids.tmp-0123456789ab")]
    hand.write("packs/notes.txt", "mine")
    hand.write("packs/ab.pack.damaged", "only copy")
    todo = hand.plan()
    assert (sorted(todo.files), todo.freed) == (sorted(gone), 20)


def test_files_without_a_usable_index_are_left_alone(hand: Hand) -> None:
    for name in ("b.pack", "a.pack"):
        hand.write(f"packs/{name}", "no pack")
    folder = hand.files.packs
    assert hand.plan() == GcPlan(
        kept_objects=5,
        notes=tuple(
            f"packs/{name} was left alone: {folder / name} is not a pack, or is truncated"
            for name in ("a.pack", "b.pack")
        ),
    )


def flip(path: Path, volume: Volume, name: BlobId | TensorId) -> None:
    """Damage what a pack has of an id, and nothing else."""
    stored = volume.blobs.get(name) or volume.tensors[name]  # type: ignore[arg-type,call-overload]
    data = bytearray(path.read_bytes())
    data[stored.at + 1] ^= 1
    path.write_bytes(data)


def test_of_equal_copies_the_one_in_the_smaller_pack_stays(hand: Hand) -> None:
    shared = noise(100)
    large, small = hand.pack(blobs=[shared, noise(900, 1)]), hand.pack(blobs=[shared, noise(50, 2)])
    blob = blob_ids(large)[0]
    hand.keep(blob)
    todo = hand.plan()
    assert (todo.files, todo.repacks, todo.kept_bytes) == ((large,), (), 100)
    flip(small, open_pack(small), blob)
    todo = hand.plan()
    assert todo.files == (small,), "it is damaged"
    assert [(repack.volume.path, repack.wanted) for repack in todo.repacks] == [(large, {blob})]
    flip(large, open_pack(large), blob)
    todo = hand.plan()
    assert (todo.files, todo.kept_bytes) == ((), 200), "both are damaged, so neither is given up"


def test_of_equal_copies_the_one_in_a_file_that_stays_anyway_stays(hand: Hand) -> None:
    """Even if the id of what both have sorts before the ids that decide which file stays."""
    shared = noise(100)
    other = next(data for data in (noise(900, seed) for seed in range(1, 99)) if blob_id(data) > blob_id(shared))
    large, small = hand.pack(blobs=[shared, other]), hand.pack(blobs=[shared, noise(50, 2)])
    hand.keep(*blob_ids(large))
    todo = hand.plan()
    assert (todo.files, todo.freed, todo.kept_bytes) == ((small,), sizes(small), 1000)


def test_a_safetensors_file_is_preferred_to_a_pack(hand: Hand) -> None:
    """Although it is larger."""
    one = tensor(0)
    pack, listing = hand.pack([one]), hand.adopt(one, tensor(1))
    hand.keep(one.id)
    assert sizes(pack) < sizes(listing.with_suffix(".safetensors"))
    todo = hand.plan()
    assert (todo.files, todo.kept_bytes) == ((pack,), 4000)


def test_a_copy_in_the_store_is_preferred_to_a_file_outside(hand: Hand) -> None:
    """Although the file outside stays anyway, and is smaller."""
    one, two = tensor(0), tensor(1)
    outside = hand.adopt(one, two, reference=True)
    pack = hand.pack([one], [noise(9000)])
    hand.keep(one.id, two.id)
    todo = hand.plan()
    assert todo.files == ()
    assert [(repack.volume.path, repack.wanted) for repack in todo.repacks] == [(pack, {one.id})]
    hand.keep(one.id)
    assert outside in hand.plan().files


def test_a_full_copy_is_preferred_to_a_delta(hand: Hand) -> None:
    """Although the full copy is outside, and the delta is in a pack that stays anyway."""
    base = tensor(0)
    changed = tensor(0, 10, base.id)
    first, deltas = hand.pack([base]), hand.pack([changed], [noise(100)], also=[base])
    assert open_pack(deltas).tensors[changed.id].base == base.id
    hand.adopt(changed, reference=True)
    hand.keep(base.id, changed.id, *blob_ids(deltas))
    todo = hand.plan()
    assert (todo.files, todo.kept_bytes) == ((), open_pack(first).tensors[base.id].stored + 100)


def test_a_delta_keeps_its_base(hand: Hand) -> None:
    base = tensor(0)
    changed = tensor(0, 10, base.id)
    first, deltas = hand.pack([base]), hand.pack([changed], also=[base])
    hand.keep(changed.id)
    both = open_pack(first).tensors[base.id].stored + open_pack(deltas).tensors[changed.id].stored
    assert hand.plan() == GcPlan(kept_objects=5, kept_bytes=both)
    second = hand.pack([base], [noise(500)])
    todo = hand.plan()
    assert (todo.files, todo.kept_bytes) == ((second,), both), "the smaller pack with its base"
    flip(first, open_pack(first), base.id)
    todo = hand.plan()
    assert todo.files == (first,), "it is damaged"


def test_copies_of_a_delta_are_checked_against_its_base(hand: Hand) -> None:
    base = tensor(0)
    changed = tensor(0, 10, base.id)
    first, small, large = (
        hand.pack([base]),
        hand.pack([changed], also=[base]),
        hand.pack([changed], [noise(500)], also=[base]),
    )
    hand.write("packs/a.pack", "no pack")
    hand.keep(changed.id)
    assert hand.plan().files == (large,)
    flip(small, open_pack(small), changed.id)
    assert hand.plan().files == (small,)
    flip(first, open_pack(first), base.id)
    assert hand.plan().files == (), "without its base, neither can be told to be good"


def test_the_base_of_a_delta_is_a_full_copy(hand: Hand) -> None:
    """A base that is also stored as a delta itself, in a smaller pack, would not do."""
    origin, base = tensor(0), tensor(0, 10, tensor(0).id)
    changed = tensor(0, 20, base.id)
    full = hand.pack([base._replace(base=None)], [noise(5000)])
    origins = hand.pack([origin])
    chained = hand.pack([base], also=[origin])
    deltas = hand.pack([changed], also=[base._replace(base=None)])
    assert open_pack(deltas).tensors[changed.id].base == base.id
    hand.keep(changed.id)
    todo = hand.plan()
    assert sorted(todo.files) == sorted([origins, chained])
    assert [(repack.volume.path, repack.wanted) for repack in todo.repacks] == [(full, {base.id})]


def test_unfinished_files_go(hand: Hand) -> None:
    mark = ".tmp-0123456789ab"
    junk = [
        hand.write(f"tmp/a{mark}", "half"),
        hand.write(f"tmp/folder{mark}/deep/file", "half").parents[1],
        hand.write(f"objects/ab/.x{mark}", "half"),
        hand.write(f".HEAD{mark}", "half"),
        hand.write(f"op/.head{mark}", "half"),
        hand.write(f"refs/heads/x/.main{mark}", "half"),
        hand.write(f"evaluations/x/.y{mark}", "half"),
        *(hand.write(f"../.persona{name}", "half") for name in (mark, f"{mark}.replaced", f".toml{mark}")),
    ]
    for name in (
        "../.persona.tmp-mine", f"../x.persona{mark}", f"../.persona{mark}.kept", "../.persona.toml",
        "objects/ab/stray", ".hidden", "op/.other", f"op/deep/.x{mark}", f"unknown/.x{mark}", f"visible{mark}",
    ):  # fmt: skip
        hand.write(name, "mine")
    (hand.folder / f"evaluations/folder{mark}").mkdir()
    todo = hand.plan()
    assert sorted(todo.unfinished) == sorted(path.resolve() for path in junk)
    assert todo == GcPlan(unfinished=todo.unfinished, freed=4 * len(junk), kept_objects=5)


def test_unfinished_files_are_in_order(hand: Hand) -> None:
    mark = ".tmp-0123456789ab"
    for folder in ("tmp/", "refs/.", "op/."):
        for name in "cab":
            hand.write(f"{folder}{name}{mark}", "")
    wanted = [hand.folder / f"{folder}{name}{mark}" for folder in ("tmp/", "op/.", "refs/.") for name in "abc"]
    assert list(hand.plan().unfinished) == wanted


def test_the_size_of_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/one").write_bytes(b"12345")
    (tmp_path / "a/two").write_bytes(b"123")
    assert size_of(tmp_path / "a") == 8
    assert size_of(tmp_path / "a/two") == 3
    assert size_of(tmp_path / "gone") == 0
