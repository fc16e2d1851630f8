"""`persona export`: write a recipe as a mergekit configuration, with its vectors as checkpoints beside it."""

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
from persona.building.stated import weight_files
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
    """A vector as mergekit reads it; `reference` is its name in the configuration.

    `form` is `checkpoint` (bit for bit), `adapter`, or `fp32` (a checkpoint of W + τ, rounded to fp32).
    """

    name: str
    form: str
    reference: str


@dataclass(frozen=True)
class ExportResult:
    """An exported recipe: its configuration and the folder with its models.

    `edited` says that the recipe has uncommitted edits on top of `commit`. `command` runs the merge. `notes` say where
    mergekit's result differs from a build.
    """

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
    """What to export, and how."""

    repo: Repository
    prepared: Prepared
    stem: str
    memory: int
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """The exported recipe."""
        return self.prepared.recipe

    @property
    def base(self) -> Base:
        """The base of the recipe."""
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
    """Write a recipe as a mergekit configuration.

    Args:
        to: Configuration to write; its models go into a folder with the same name without the suffix.
        rev: Revision to export. The default is `persona.toml`.
        base: Folder with the base's weights, which the configuration then names instead of a copy.
        dtype: Data type of the merged model; needed if a build would have several.
        memory: Bytes of tensors in memory at once.

    Raises:
        UsageError: `to` is not a usable name.
        WrongBase: `base` has other weights than the recipe's base.
        Refusal: mergekit cannot express the recipe, or `to` exists with another content.
    """
    path = _checked_target(Path(to))
    folder = path.with_suffix("")
    commit, edited, recipe = recipe_to_build(repo, rev)
    prepared = repo.prepare(recipe, named_dtype(dtype))
    active, plan = prepared.active, prepared.plan
    job = _Job(repo, prepared, folder.name, memory, progress)
    _check_expressible(job, own_base=base is not None)
    reference = f"{folder.name}/base" if base is None else _own_base(job, Path(base))
    models = [_model(job, vector, reference) for vector in active]
    written = config_of(recipe, reference, [model for model, *_ in models], active[0].depths, _out_dtype(plan))
    exported = tuple(model for _, model, _ in models)
    text, command, notes = _text(job, path, commit, edited, written, exported)
    _check_free(path, text)
    check_own(folder)
    with several(folder, replace=folder.exists() and any(folder.iterdir())) as staging:
        if base is None:
            _write_base(job, staging / "base")
        for vector, (_, model, pairs) in zip(active, models, strict=True):
            _write_model(job, staging / "vectors" / vector.name, vector, model.form, pairs)
    files.write_file(path, text.encode())
    return ExportResult(path, folder, commit, edited, str(written.config["merge_method"]), exported, command, notes)


def _checked_target(path: Path) -> Path:
    if path.suffix not in (".yml", ".yaml"):
        raise UsageError(f"{path} is not a .yml or .yaml file", "Use a name such as --to merge/recipe.yml.")
    if not {*"+@ \n"}.isdisjoint(path.stem):
        raise UsageError(
            f"'{path.name}' has '+', '@' or a space, which have a meaning for mergekit", "Use another name."
        )
    return path.resolve()


def _check_free(path: Path, text: str) -> None:
    """Raise if `path` exists, unless it has this text already, as after an export that was interrupted at the end."""
    try:
        same = files.read_bytes(path) == text.encode()
    except FileNotFoundError:
        return
    except OSError as error:
        raise files.storage_error(error, path) from error
    if not same:
        raise Refusal(f"{path} already exists with another content", "Use another name, or move it away.")


def _check_expressible(job: _Job, *, own_base: bool) -> None:
    """Raise for what mergekit cannot express with any method."""
    if not job.prepared.active:
        raise Refusal("nothing to merge: no vector has a nonzero alpha", "See 'persona vectors'.")
    if own_base and job.recipe.choices:
        raise Refusal(
            "the recipe chooses files or settings, but mergekit would use those of --base", "Leave --base out."
        )
    for name, spec in job.base.tensors.items():
        if spec.dtype not in ARITHMETIC:
            raise Refusal(
                f"tensor {name} of the base is {spec.dtype}, which mergekit would cast",
                "Build the model instead: persona build",
            )
    based = job.recipe.method not in ("karcher", "slerp") or (
        job.recipe.method == "slerp" and len(job.prepared.active) == 1
    )
    for vector in job.prepared.active:
        for name in [*grown(job.base, vector.vector), *vector.vector.gone]:
            raise Refusal(
                f"vector '{vector.name}' resizes, adds or removes {name}, which mergekit cannot merge",
                "Build the model instead (persona build), or set the vector's alpha to 0.",
            )
        for file in told(vector):
            if own_base or not based:
                raise Refusal(
                    f"vector '{vector.name}' has its own {file}, but mergekit would use that of another model",
                    "Leave --base out." if based else "Build the model instead: persona build",
                )


def _own_base(job: _Job, folder: Path) -> str:
    """Check the user's folder of the base, and return its name in the configuration."""
    check_is_base(open_checkpoint(folder), job.base, job.recipe.base_name)
    path = str(folder.resolve())
    if not {*"+@"}.isdisjoint(path):
        raise UsageError(f"{path} contains '+' or '@', which have a meaning for mergekit", "Rename the folder.")
    return path


def _out_dtype(plan: Plan) -> str:
    dtypes = {output.dtype: output.name for output in plan.outputs}
    if len(dtypes) > 1:
        examples = ", ".join(f"{name} {dtype}" for dtype, name in sorted(dtypes.items()))
        raise Refusal(f"mergekit writes one dtype, but the build has several ({examples})", "Add --dtype bf16.")
    return TORCH_NAMES[next(iter(dtypes))]


def _model(job: _Job, vector: Active, base: str) -> tuple[Model, ExportedModel, list[Pair]]:
    """Decide how to write a vector, and what to call it in the configuration."""
    reference, pairs, form = f"{job.stem}/vectors/{vector.name}", list[Pair](), "checkpoint"
    alone = _alone(job, vector)
    if vector.vector.form not in WHOLE:
        try:
            pairs = exact_pairs(
                alone, Surroundings(job.base, job.repo.model_config(job.base), [_plain(vector)]), job.repo.tensors
            )
        except Refusal:  # not only low-rank factors: write W + τ
            pairs = []
        if any(pair.module.parameter for pair in pairs):  # mergekit may use a PEFT that has no adapters of parameters
            pairs = []
        form = "adapter" if pairs else form
    if form == "checkpoint" and any(output.copy is None for output in alone.outputs):
        form = "fp32"
    reference = f"{base}+{reference}" if form == "adapter" else reference
    sizes = {name: job.base.tensors[name].entries for name in vector.vector.names}
    return Model(vector.entry, reference, sizes), ExportedModel(vector.name, form, reference), pairs


def _plain(vector: Active) -> Active:
    return replace(vector, entry=Entry(vector.name, vector.entry.id))


def _alone(job: _Job, vector: Active, dtype: str | None = None) -> Plan:
    """The plan of the base plus this vector."""
    recipe = Recipe(job.recipe.base, job.recipe.base_name, (Entry(vector.name, vector.entry.id),))
    return make_plan(recipe, job.base, {vector.name: vector.vector}, dtype)


def _write_base(job: _Job, target: Path) -> None:
    """Write the base's weights with the side files of the merged model, as mergekit copies those of the base."""
    plan = make_plan(Recipe(job.recipe.base, job.recipe.base_name), job.base, {})
    _write_checkpoint(job, target, plan, job.prepared.side_files(job.repo.tensors))


def _write_model(job: _Job, target: Path, vector: Active, form: str, pairs: list[Pair]) -> None:
    if form == "adapter":
        like = weight_files(_alone(job, vector), job.repo.tensors)
        write_factors(target, pairs, "", job.repo.model_config(job.base), like)
        return
    plan = _alone(job, vector, "F32" if form == "fp32" else None)
    _write_checkpoint(job, target, plan, side_files(plan, job.base, [_plain(vector)], job.repo.tensors).files)


def _write_checkpoint(job: _Job, target: Path, plan: Plan, extra: Mapping[str, bytes]) -> None:
    write_checkpoint(target, plan, extra, job.repo.tensors, memory=job.memory, progress=job.progress)


def _text(
    job: _Job, path: Path, commit: CommitId, edited: bool, written: Written, models: tuple[ExportedModel, ...]
) -> tuple[str, str, tuple[str, ...]]:
    """The configuration file, the command that runs it, and the notes."""
    options = f" {ADAPTER_OPTIONS.format(stem=job.stem)}" if any(model.form == "adapter" for model in models) else ""
    command = f"mergekit-yaml {path.name} OUT{options}"
    silent = [entry.name for entry in job.recipe.vectors if not alphas.acts(entry.alpha)]
    notes = (*written.notes, *([f"left out because their alpha is 0: {', '.join(silent)}"] if silent else []))
    edits = ", with uncommitted edits" if edited else ""
    head = [
        f"Exported by persona from commit {commit.short}{edits}. Run this in the folder of this file, as paths are relative:",
        command,
        *notes,
    ]
    return "".join(f"# {line}\n" for line in head) + yamltext.dump(written.config), command, tuple(notes)
