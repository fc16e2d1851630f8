"""``persona export``: a recipe as a mergekit configuration, with its vectors as checkpoints beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from persona import files
from persona.building.acting import WHOLE, Active, grown
from persona.building.adapter import Pair, Surroundings, exact_pairs, told
from persona.building.budget import DEFAULT as MEMORY
from persona.building.models import check_own, several, write_checkpoint, write_factors
from persona.building.plan import Plan, make_plan
from persona.building.prepare import Prepared
from persona.building.sidefiles import side_files
from persona.checkpoints import yamltext
from persona.checkpoints.dtypes import ARITHMETIC, TORCH_NAMES, named_dtype
from persona.checkpoints.folder import open_checkpoint
from persona.errors import Refusal, UsageError
from persona.ids import CommitId
from persona.progress import SILENT, Progress
from persona.recipe import alphas
from persona.recipe.mergekit.writing import Model, Written, config_of
from persona.recipe.model import Entry, Recipe
from persona.repository import Repository
from persona.store.matching import check_is_base
from persona.store.nouns import Base
from persona.workspace.record import recipe_to_build

ADAPTER_OPTIONS = "--lora-merge-cache {stem}/merged --lora-merge-dtype float32"


@dataclass(frozen=True)
class ExportedModel:
    """A vector as mergekit takes it. ``form``: checkpoint (bit for bit), adapter, or fp32 (W + τ, rounded to fp32)."""

    name: str
    form: str
    reference: str


@dataclass(frozen=True)
class ExportResult:
    """A configuration, the folder with its models, and what mergekit does otherwise."""

    config: Path
    folder: Path
    commit: CommitId
    edited: bool
    method: str
    models: tuple[ExportedModel, ...]
    command: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """What has to be written, and from where."""

    repo: Repository
    prepared: Prepared
    stem: str
    memory: int
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """What is exported."""
        return self.prepared.recipe

    @property
    def base(self) -> Base:
        """Its base."""
        return self.prepared.base


def export(
    repo: Repository,
    to: Path | str,
    rev: str | None = None,
    *,
    base: Path | str | None = None,
    dtype: str | None = None,
    memory: int = MEMORY,
    progress: Progress = SILENT,
) -> ExportResult:
    """Write ``rev``, or the recipe as it stands, as the mergekit configuration ``to``; its models go into a folder beside.

    The folder is called as the file without its suffix. ``base`` is a folder with the base's own weights, which the
    configuration then names instead of a copy; ``dtype`` that of the merged model, if its tensors would have several.
    """
    path = _checked_target(Path(to))
    folder = path.with_suffix("")
    commit, edited, recipe = recipe_to_build(repo, rev)
    prepared = repo.prepare(recipe, named_dtype(dtype))
    active, plan = prepared.active, prepared.plan
    job = _Job(repo, prepared, folder.name, memory, progress)
    _check_sayable(job, own_base=base is not None)
    reference = f"{folder.name}/base" if base is None else _own_base(job, Path(base))
    models = [_model(job, one, reference) for one in active]
    written = config_of(recipe, reference, [model for model, *_ in models], active[0].depths, _out_dtype(plan))
    exported = tuple(one for _, one, _ in models)
    text, command, notes = _text(job, path, commit, edited, written, exported)
    _check_free(path, text)
    check_own(folder)
    with several(folder, replace=folder.exists() and any(folder.iterdir())) as staging:
        if base is None:
            _write_base(job, staging / "base")
        for one, (_, said, pairs) in zip(active, models, strict=True):
            _write_model(job, staging / "vectors" / one.name, one, said.form, pairs)
    files.write_file(path, text.encode())
    return ExportResult(path, folder, commit, edited, str(written.config["merge_method"]), exported, command, notes)


def _checked_target(path: Path) -> Path:
    if path.suffix not in (".yml", ".yaml"):
        raise UsageError(f"{path} is not named like a YAML file", "Give a name such as --to merge/recipe.yml.")
    if not {*"+@ \n"}.isdisjoint(path.stem):
        raise UsageError(
            f"'{path.name}' has '+', '@' or a space, which mergekit takes for something else", "Rename it."
        )
    return path.resolve()


def _check_free(path: Path, text: str) -> None:
    """Raise unless ``path`` is free, or says this already, as after an export that was interrupted at its end."""
    try:
        same = path.read_bytes() == text.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.storage_error(error, path) from error
    if not same:
        raise Refusal(f"{path} exists, and says something else", "Choose another name, or move it away.")


def _check_sayable(job: _Job, *, own_base: bool) -> None:
    """Raise for what no mergekit configuration can say, whatever the method."""
    if not job.prepared.active:
        raise Refusal("no vector of this recipe acts: there is nothing to merge", "See 'persona vectors'.")
    strange = next((name for name, spec in job.base.tensors.items() if spec.dtype not in ARITHMETIC), None)
    if strange is not None:
        raise Refusal(
            f"the base has {strange} as {job.base.tensors[strange].dtype}, which mergekit would cast", "Build it."
        )
    based = job.recipe.method not in ("karcher", "slerp") or (
        job.recipe.method == "slerp" and len(job.prepared.active) == 1
    )
    for one in job.prepared.active:
        for name in [*grown(job.base, one.vector), *one.vector.gone]:
            raise Refusal(
                f"vector '{one.name}' adds to, or takes out, {name}: mergekit merges tensors of one shape alone",
                "Build the model itself (persona build), or leave the vector out.",
            )
        for file in told(one):
            if own_base or not based:
                raise Refusal(
                    f"vector '{one.name}' brings its own {file}, and mergekit would take that of another model",
                    "Leave --base out." if based else "Build the model itself: persona build.",
                )


def _own_base(job: _Job, folder: Path) -> str:
    """The user's folder of the base, as the configuration names it."""
    check_is_base(open_checkpoint(folder), job.base, job.recipe.base_name)
    path = str(folder.resolve())
    if not {*"+@"}.isdisjoint(path):
        raise UsageError(f"{path} has '+' or '@', which mergekit takes for something else", "Rename it.")
    return path


def _out_dtype(plan: Plan) -> str:
    dtypes = {output.dtype: output.name for output in plan.outputs}
    if len(dtypes) > 1:
        said = ", ".join(f"{name} {dtype}" for dtype, name in sorted(dtypes.items()))
        raise Refusal(f"the merged tensors have several dtypes ({said}), and mergekit writes one", "Add --dtype bf16.")
    return TORCH_NAMES[next(iter(dtypes))]


def _model(job: _Job, one: Active, base: str) -> tuple[Model, ExportedModel, list[Pair]]:
    """How a vector is written, and what the configuration calls it."""
    reference, pairs, form = f"{job.stem}/vectors/{one.name}", list[Pair](), "checkpoint"
    alone = _alone(job, one)
    if one.vector.form not in WHOLE:
        try:
            pairs = exact_pairs(
                alone, Surroundings(job.base, job.repo.model_config(job.base), [_plain(one)]), job.repo.tensors
            )
        except Refusal:  # more than factors: it is written as the sum of both
            pairs = []
        form = "adapter" if pairs else form
    if form == "checkpoint" and any(output.copy is None for output in alone.outputs):
        form = "fp32"
    reference = f"{base}+{reference}" if form == "adapter" else reference
    sizes = {name: job.base.tensors[name].entries for name in one.vector.names}
    return Model(one.entry, reference, sizes), ExportedModel(one.name, form, reference), pairs


def _plain(one: Active) -> Active:
    return replace(one, entry=Entry(one.name, one.entry.id))


def _alone(job: _Job, one: Active, dtype: str | None = None) -> Plan:
    """The plan of base + τ."""
    recipe = Recipe(job.recipe.base, job.recipe.base_name, (Entry(one.name, one.entry.id),))
    return make_plan(recipe, job.base, {one.name: one.vector}, dtype)


def _write_base(job: _Job, target: Path) -> None:
    """The base's weights, and beside them what the merged model has: mergekit takes that from here."""
    plan = make_plan(Recipe(job.recipe.base, job.recipe.base_name), job.base, {})
    beside = job.prepared.side_files(job.repo.tensors)
    _checkpoint(job, target, plan, beside)


def _write_model(job: _Job, target: Path, one: Active, form: str, pairs: list[Pair]) -> None:
    if form == "adapter":
        write_factors(target, pairs, "", job.repo.model_config(job.base))
        return
    plan = _alone(job, one, "F32" if form == "fp32" else None)
    _checkpoint(job, target, plan, side_files(plan, job.base, [_plain(one)], job.repo.tensors))


def _checkpoint(job: _Job, target: Path, plan: Plan, beside: Mapping[str, bytes]) -> None:
    write_checkpoint(target, plan, beside, job.repo.tensors, memory=job.memory, progress=job.progress)


def _text(
    job: _Job, path: Path, commit: CommitId, edited: bool, written: Written, models: tuple[ExportedModel, ...]
) -> tuple[str, str, tuple[str, ...]]:
    """The file, the command that merges it, and the notes."""
    options = f" {ADAPTER_OPTIONS.format(stem=job.stem)}" if any(one.form == "adapter" for one in models) else ""
    command = f"mergekit-yaml {path.name} OUT{options}"
    silent = [entry.name for entry in job.recipe.vectors if not alphas.acts(entry.alpha)]
    notes = (*written.notes, *([f"left out, for their alpha is 0: {', '.join(silent)}"] if silent else []))
    edits = ", with uncommitted edits" if edited else ""
    head = [
        f"Exported by persona from commit {commit.short}{edits}. Paths are relative: run this in the folder of this file.",
        command,
        *notes,
    ]
    return "".join(f"# {line}\n" for line in head) + yamltext.dump(written.config), command, tuple(notes)
