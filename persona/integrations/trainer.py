"""A callback that commits what a transformers ``Trainer`` (or one of trl's) has trained.

    Trainer(…, callbacks=[PersonaCallback(name="listening", node="pattern-listening-as-avoidance")])

It commits the checkpoint that the Trainer wrote for the last step, or for the best step if the Trainer reloaded that.
If there is none (``save_strategy="no"``), it saves the model itself, unless the model is sharded over processes. Errors
become warnings that say what to run afterwards; they never stop the training run. Rows that hold the model in place on
everything else, as those of `persona train` do, are made by `persona anchors` and mixed into the data set.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback

import persona
from persona import files
from persona.checkpoints.folder import find_run
from persona.checkpoints.provenance.arguments import facts_of
from persona.checkpoints.provenance.code import training_code
from persona.checkpoints.provenance.dataset import fingerprint
from persona.errors import CheckpointError, PersonaError
from persona.recipe.parse import checked_vector_name
from persona.verbs.commit import CommitResult

LOG = logging.getLogger("persona")
MOST_EVALUATIONS = 48
"""Maximum number of evaluations to record per run; the newest are kept."""


class PersonaCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Commits a training run as a vector when it ends, or at every save.

    Args:
        name: Name of the vector. By default that of the output folder.
        node: Node of the memory graph that it implements.
        alpha: Its strength in the recipe.
        message: The commit's message.
        repo: Folder in a repository. By default the current one.
        data: Files that it is trained on; their hashes are recorded.
        meta: Additional fields to record.
        when: ``end`` or ``save``.
        author: The commit's author.

    Attributes:
        committed: The result of the last commit.
        problem: The last warning.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        node: str | None = None,
        alpha: float | None = None,
        message: str | None = None,
        repo: Path | str | None = None,
        data: Sequence[Path | str] = (),
        meta: Mapping[str, str] | None = None,
        when: Literal["end", "save"] = "end",
        author: str = "",
    ) -> None:
        if when not in ("end", "save"):
            raise ValueError(f"when={when!r}: must be 'end' or 'save'")
        self.name, self.node, self.alpha, self.message = name, node, alpha, message
        self.repo = Path(repo) if repo is not None else Path.cwd()
        self.data, self.meta, self.when, self.author = tuple(map(Path, data)), dict(meta or {}), when, author
        self.committed: CommitResult | None = None
        self.problem: str | None = None
        self._facts: dict[str, Any] = {}
        self._evaluations: list[dict[str, Any]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record what is trained and on which data, and check that it can be committed later."""
        if not _ours(state):
            return
        self.committed, self.problem = None, None
        self._evaluations = []
        self._facts = {"started": _started(args, kwargs.get("model"))}
        with self._surviving(args, None, "cannot record what this run is trained on"):
            self._facts |= self._material(args, kwargs.get("train_dataloader"))
        with self._surviving(args, None, "will not be able to commit this run"):
            checked_vector_name(self._name(args))
            repo = persona.open(self.repo)
            head = repo.head()
            self._facts["started"] |= {"commit": head, "base": repo.recipe(head).base}

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Record the results of an evaluation."""
        if _ours(state) and metrics:
            numbers = {key: float(value) for key, value in metrics.items() if _is_number(value)}
            self._evaluations = [*self._evaluations, {"step": int(state.global_step), **numbers}][-MOST_EVALUATIONS:]

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Commit the checkpoint that was just written, with ``when="save"``."""
        if self.when == "save" and _ours(state):
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            with self._surviving(args, folder):
                self._commit(args, folder)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Commit the run."""
        if not _ours(state):
            return
        folder, ours = None, False
        with self._surviving(args, None):
            folder = written(args, state)
            if folder is None:
                folder, ours = self._save(args, state, kwargs.get("model"), kwargs.get("processing_class")), True
        if folder is None:
            return
        with self._surviving(args, folder):
            self._commit(args, folder)
            if ours:
                files.remove_tree(folder)  # only needed for the commit

    def _name(self, args: Any) -> str:
        return self.name or Path(args.output_dir).resolve().name

    def _material(self, args: Any, loader: Any) -> dict[str, Any]:
        """Facts about the training arguments, dataset, data files and code."""
        facts: dict[str, Any] = {"arguments": facts_of(type(args).__name__, args.to_dict())}
        if code := training_code([Path.cwd(), Path(args.output_dir)]):
            facts["code"] = code
        if loader is not None:
            facts["dataset"] = dataset_facts(getattr(loader, "dataset", None))
        if self.data:
            facts["data"] = [fingerprint(path) for path in self.data]
        return facts

    def _save(self, args: Any, state: Any, model: Any, processing: Any) -> Path:
        """Save the model of the last step beside the run's checkpoints."""
        if getattr(args, "fsdp", None) or getattr(args, "deepspeed", None) or not hasattr(model, "save_pretrained"):
            raise CheckpointError(
                f"{args.output_dir} has no checkpoint of step {state.global_step}, and the model is sharded",
                "Save it (trainer.save_model()).",
            )
        folder = Path(args.output_dir) / f"persona-{state.global_step}"
        model.save_pretrained(folder, safe_serialization=True)
        if processing is not None and hasattr(processing, "save_pretrained"):
            processing.save_pretrained(folder)
        state.save_to_json(str(folder / "trainer_state.json"))
        return folder

    def _commit(self, args: Any, folder: Path) -> None:
        more = {**self._facts, "evaluations": self._evaluations} if self._evaluations else self._facts
        self.committed = persona.commit(
            persona.open(self.repo),
            folder,
            name=self._name(args),
            alpha=self.alpha,
            node=self.node,
            message=self.message,
            author=self.author,
            meta=self.meta,
            more=more,
            command="commit (Trainer)",
        )
        recorded = self.committed.recorded
        LOG.info("%s: %s", folder, f"commit {recorded.commit.short}" if recorded else self.committed.notes[-1])

    @contextmanager
    def _surviving(self, args: Any, folder: Path | None, what: str = "did not commit this run") -> Iterator[None]:
        """Turn every error into a warning, because nothing here should stop a training run."""
        try:
            yield
        except Exception as error:  # such as a full disk or an unusual dataset class
            self._warn(what, error, folder or Path(args.output_dir), self._name(args))

    def _warn(self, what: str, error: Exception, folder: Path, name: str) -> None:
        why = error.message if isinstance(error, PersonaError) else f"{type(error).__name__}: {error}"
        hint = f" {error.hint}" if isinstance(error, PersonaError) and error.hint else ""
        again = shlex.join(["persona", "-C", str(self.repo), "commit", str(folder.resolve()), "--as", name])
        self.problem = f"persona {what}: {why}.{hint} To commit it afterwards, run: {again}"
        LOG.warning("%s", self.problem)


def written(args: Any, state: Any) -> Path | None:
    """The checkpoint of the final model: the best one if the Trainer reloaded it, else the last; None if not saved."""
    last = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    best = state.best_model_checkpoint if args.load_best_model_at_end else None
    folder = Path(best) if best else last
    try:
        return find_run(folder) if folder.is_dir() else None
    except CheckpointError:
        return None  # it has no weights, or pickled ones


def _started(args: Any, model: Any) -> dict[str, Any]:
    """Start time, seed, and the model that training starts from."""
    origin = str(getattr(model, "name_or_path", ""))
    time = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"time": time, "seed": int(args.seed)} | ({"model": origin} if origin else {})


def dataset_facts(dataset: Any) -> dict[str, Any]:
    """Class, number of rows and fingerprint of a dataset, as far as they are known without reading examples."""
    facts: dict[str, Any] = {"kind": type(dataset).__name__}
    measured: Callable[[], int] | None = getattr(dataset, "__len__", None)
    if measured is not None:
        facts["rows"] = int(measured())
    fingerprint = getattr(dataset, "_fingerprint", None)  # Hugging Face datasets: a hash of data and transforms
    if isinstance(fingerprint, str):
        facts["fingerprint"] = fingerprint
    return facts


def _ours(state: Any) -> bool:
    """Whether this process commits (rank 0), and the run is not a trial of a hyperparameter search."""
    return bool(state.is_world_process_zero) and not state.is_hyper_param_search


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
