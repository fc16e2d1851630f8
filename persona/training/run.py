"""Train with transformers' Trainer, in a folder that can be resumed after a kill.

RUN/run.json          identity of the run: settings, start and data; the same run resumes, any other is refused
    checkpoints/      the Trainer's checkpoints
    fisher.safetensors  the Fisher diagonal, with elastic weight consolidation
    anchors.jsonl     the answers of the model at the start, with anchors
    log.jsonl         a line for each step (`persona.training.runlog`)
    result.json       how the run went
    final/            the adapter or model, written atomically
"""

from __future__ import annotations

import contextlib
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from persona import files
from persona.checkpoints.folder import CHECKPOINTS, FINAL, IDENTITY, numbered_folders
from persona.errors import Refusal
from persona.inference.imports import quiet_imports
from persona.inference.load import LoadedModel, context_length
from persona.progress import SILENT, Progress, Task
from persona.threads import cores
from persona.training import fisher
from persona.training.adapting import restore_dtypes, trainable
from persona.training.anchoring import Anchoring, kept_or_made
from persona.training.anchors import KEPT, AnchorPlan, AnchorSummary
from persona.training.fisher import FisherDrift, Guard
from persona.training.runlog import LOG, TRAINING, RunLog
from persona.training.settings import LATER, Settings
from persona.training.tokens import Tokenized

with quiet_imports():
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback
    from transformers.utils import logging

RESULT, LOCK = "result.json", "lock"
IGNORED = -100
MOST_POINTS = 48
"""Maximum number of points of a loss curve to keep."""


@dataclass(frozen=True)
class Fit:
    """How a run went; its fields are also in `TrainResult`.

    `curve` has pairs of step and loss per token of its batch; `before` and `after` are losses per token on the evaluation
    data. `resumed` is the step that the run last resumed from.
    """

    steps: int
    resumed: int
    curve: tuple[tuple[int, float], ...]
    before: float | None = None
    after: float | None = None
    ewc: FisherDrift | None = None
    anchors: AnchorSummary | None = None


def steps_of(settings: Settings, rows: int) -> int:
    """Number of updates of a run on `rows` examples."""
    batches = math.ceil(rows / settings.batch)
    return settings.max_steps or math.ceil(settings.epochs * max(1, math.ceil(batches / settings.accumulate)))


def check_identity(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the folder has this run already. Another run that has kept nothing, no checkpoint and no result, does not count.

    Raises:
        Refusal: the folder holds another run, or is not a run folder.
    """
    path = folder / IDENTITY
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or not all(_begun(file.name) for file in folder.iterdir())):
            raise Refusal(f"{folder} already exists and is not a run of persona train", "Give another folder: -o RUN")
        return False
    with files.translated(path):
        data = files.read_bytes(path)
    try:
        known = json.loads(data)
    except ValueError:
        known = None
    if not isinstance(known, dict):
        raise Refusal(f"{path} is damaged", "Give another folder: -o RUN")
    known = _with_defaults(known)
    if known == identity:
        return True
    if not (folder / FINAL).exists() and _newest(folder) is None:
        return False
    raise Refusal(f"{folder} holds another run: {_difference(known, identity)}", "Give another folder: -o RUN")


def begin(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make a folder that of a run: remove what another one left there before its first checkpoint, which counts for nothing."""
    if (folder / CHECKPOINTS).is_dir():
        files.remove_tree(folder / CHECKPOINTS)
    for name in _LEFT:
        files.remove_file(folder / name)
    files.write_file(folder / IDENTITY, (json.dumps(identity, indent=1) + "\n").encode())


_LEFT = (IDENTITY, fisher.FILE, KEPT, LOG, RESULT)


def _with_defaults(known: Mapping[str, Any]) -> dict[str, Any]:
    """An identity with the settings that older versions did not write."""
    settings = known.get("settings")
    return {**known, "settings": {**LATER, **settings}} if isinstance(settings, dict) else {**known}


def _begun(name: str) -> bool:
    """Whether a file can exist before the identity: the lock, or an unfinished identity left by a kill."""
    return name == LOCK or name.startswith(f".{IDENTITY}.tmp-")


def _difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first difference between two runs."""
    for key in sorted({*known, *wanted}):
        old, new = known.get(key), wanted.get(key)
        if old != new:
            if isinstance(old, dict) and isinstance(new, dict):
                return _difference(old, new)
            return f"its {key} is {json.dumps(old, ensure_ascii=False)}, not {json.dumps(new, ensure_ascii=False)}"
    return "it differs"


def finished(folder: Path) -> Fit | None:
    """How the run in a folder went; None if it is not finished."""
    if not (folder / FINAL).is_dir():
        return None
    with files.translated(folder / RESULT):
        fields = json.loads(files.read_bytes(folder / RESULT))
    drift = FisherDrift(**fields["ewc"]) if fields["ewc"] else None
    anchors = AnchorSummary(**fields["anchors"]) if fields.get("anchors") else None
    curve = tuple((step, loss) for step, loss in fields["curve"])
    return Fit(**{**fields, "curve": curve, "ewc": drift, "anchors": anchors})


def _newest(folder: Path) -> Path | None:
    """The newest complete checkpoint."""
    place = folder / CHECKPOINTS
    complete = (
        [checkpoint for checkpoint in numbered_folders(place) if _is_complete(checkpoint)] if place.is_dir() else []
    )
    return complete[-1] if complete else None


def _is_complete(checkpoint: Path) -> bool:
    try:  # the Trainer writes its state last
        json.loads(files.read_bytes(checkpoint / "trainer_state.json"))
    except (OSError, ValueError):
        return False
    return True


def fit(
    loaded: LoadedModel,
    rows: Sequence[Tokenized],
    settings: Settings,
    folder: Path,
    evaluation: Sequence[Tokenized] = (),
    old: Sequence[Tokenized] = (),
    anchors: AnchorPlan | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Fit:
    """Train a model, or resume from the newest checkpoint in `folder`; writes the result to `folder/final`.

    Args:
        rows: Examples to train on.
        evaluation: Examples to measure the loss on, before and after.
        old: Examples of the old task, for elastic weight consolidation.
        anchors: Prompts that the model answers first, to keep its answers to them.

    Raises:
        Refusal: training diverged.
    """
    files.make_folder(folder)
    for left in folder.glob(f".{FINAL}.tmp-*"):
        files.remove_tree(left)  # of a run that was killed while it wrote its result
    pad = loaded.need_tokenizer().pad_token_id or 0
    newest = _newest(folder)
    log = RunLog(folder, _step_of(newest))

    def measured(model: Any, phase: str) -> float | None:
        if not evaluation:
            return None
        loss = loss_of(model, evaluation, settings.batch, pad, f"{phase} training", progress)
        log.write(phase, loss=loss)
        return loss

    with _own_randomness(settings.seed), _quiet(), _within_quota():
        # A full fine-tune is measured in the dtype of its weights, an adapter (initially zero) in the dtype it runs in.
        full = settings.method == "full"
        before = measured(loaded.model, "before") if full else None
        model, dtypes = trainable(loaded.model, settings, device)
        if not full:
            before = measured(model, "before")
        guard = _guard(model, settings, folder, old, progress)
        anchoring, summary = _anchored(replace(loaded, model=model), anchors, settings, folder, progress)
        with progress.task("training", steps_of(settings, len(rows)), "steps") as task:
            task.advance(_step_of(newest))
            trainer = _Trainer(model, rows, settings, folder, pad, guard, anchoring, _Watcher(task, folder, log))
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        _check_finite(model, folder)
        drift = guard.report(model) if guard else None
        model = restore_dtypes(model, dtypes)
        after = measured(model, "after")
        summary = trainer.anchor_course(summary)
        done = Fit(trainer.state.global_step, _step_of(newest), trainer.curve(), before, after, drift, summary)
        _publish(model, trainer, folder, done)
    return done


def _step_of(checkpoint: Path | None) -> int:
    """The step in a checkpoint's name; 0 without a checkpoint."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def _guard(model: Any, settings: Settings, folder: Path, old: Sequence[Tokenized], progress: Progress) -> Guard | None:
    if not settings.ewc:
        return None
    rows = fisher.drawn(old, settings.ewc_examples, settings.seed)
    known = fisher.read(folder)
    if known is None:
        diagonal, tokens = fisher.estimate(model, rows, settings.seed, progress)
        fisher.write(folder, diagonal, len(rows), tokens)
        known = diagonal, len(rows), tokens
    device = model.get_input_embeddings().weight.device
    start = {}
    if settings.method == "full":
        start = {name: weight.detach().clone() for name, weight in model.named_parameters() if name in known[0]}
    diagonal = {name: tensor.to(device) for name, tensor in known[0].items()}
    return Guard(settings.ewc, diagonal, start, known[1], known[2])


def _anchored(
    start: LoadedModel, plan: AnchorPlan | None, settings: Settings, folder: Path, progress: Progress
) -> tuple[Anchoring | None, AnchorSummary | None]:
    """The loss on the anchors of a run and their summary, both None without anchors."""
    if plan is None or not plan.asked:
        return None, None
    context = context_length(start.model.config)
    limit = min(settings.max_length, context) if context else settings.max_length
    anchors, summary = kept_or_made(start, plan, folder, limit, progress)
    return Anchoring(anchors, plan.per_batch, settings), summary


class _Trainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """The Trainer with a schedule down to the final learning rate, the EWC penalty, and the loss on anchors."""

    def __init__(
        self,
        model: Any,
        rows: Sequence[Tokenized],
        settings: Settings,
        folder: Path,
        pad: int,
        guard: Guard | None,
        anchoring: Anchoring | None,
        watcher: _Watcher,
    ) -> None:
        self._settings, self._guard, self._rows = settings, guard, [_labelled(row) for row in rows]
        self._anchoring, self._watcher = anchoring, watcher
        self._sums: dict[str, torch.Tensor | float] = {}
        self._batch = (-1, 0)  # the update, and the part of it
        device = model.get_input_embeddings().weight.device.type
        args = _arguments(settings, folder, device)
        super().__init__(
            model, args, train_dataset=self._rows, data_collator=lambda batch: collate(batch, pad), callbacks=[watcher]
        )
        self.remove_callback(PrinterCallback)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save the weights of a checkpoint."""
        self.model.save_pretrained(output_dir or self.args.output_dir, **_save_options(self.model))

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Create the schedule: warm-up, then decay to the final learning rate."""
        settings = self._settings
        self.lr_scheduler = LambdaLR(
            optimizer or self.optimizer, lambda step: share_of_rate(settings, step, num_training_steps)
        )
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **more: Any
    ) -> Any:
        """The loss per token of the update, plus the penalty and the loss on anchors, each once per update."""
        loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch, **more)
        self._watcher.count(inputs["attention_mask"])
        scaled = self.model_accepts_loss_kwargs and num_items_in_batch is not None
        parts = getattr(self, "current_gradient_accumulation_steps", self.args.gradient_accumulation_steps)
        if self._guard is not None:
            loss = loss + self._added("penalty", self._guard.penalty(model), parts, scaled)
        if self._anchoring is not None:
            anchored = self._anchoring.loss(model, self._batch_number())
            loss = loss + self._settings.anchor_share * self._added("anchor", anchored, parts, scaled)
        return loss

    def _added(self, name: str, value: torch.Tensor, parts: int, scaled: bool) -> torch.Tensor:
        """A term as it is added to the loss of one of the parts of an update, and remembered for the log."""
        self._sums[name] = self._sums.get(name, 0.0) + value.detach() / parts
        return value / (parts if scaled else 1)  # unless the loss is scaled, the Trainer divides all of it

    def _batch_number(self) -> int:
        """The number of the batch in the run, which is the same after a resume."""
        step: int = self.state.global_step
        self._batch = (step, self._batch[1] + 1 if self._batch[0] == step else 0)
        return step * self._settings.accumulate + self._batch[1]

    def log(self, logs: dict[str, float], *args: Any, **more: Any) -> None:
        """Log the loss on the data alone, and what is added to it separately."""
        if "loss" in logs:
            added = {name: float(value) for name, value in self._sums.items()}
            logs |= added
            logs["loss"] -= added.get("penalty", 0.0) + self._settings.anchor_share * added.get("anchor", 0.0)
            self._sums.clear()
        super().log(logs, *args, **more)

    def anchor_course(self, summary: AnchorSummary | None) -> AnchorSummary | None:
        """The summary with the loss on anchors in the first and in the last tenth of the run."""
        values = [float(entry["anchor"]) for entry in self.state.log_history if "anchor" in entry]
        if summary is None or not values:
            return summary
        tenth = math.ceil(len(values) / 10)
        return replace(summary, first=sum(values[:tenth]) / tenth, last=sum(values[-tenth:]) / tenth)

    def curve(self) -> tuple[tuple[int, float], ...]:
        """Pairs of step and loss, thinned to `MOST_POINTS`."""
        points = [(int(entry["step"]), float(entry["loss"])) for entry in self.state.log_history if "loss" in entry]
        if len(points) <= MOST_POINTS:
            return tuple(points)
        places = np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)
        return tuple(points[place] for place in places)


def share_of_rate(settings: Settings, step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then cosine or linear decay to the final rate."""
    if step < settings.warmup_steps:
        return step / settings.warmup_steps
    if settings.schedule == "constant" or not settings.learning_rate:
        return 1.0
    final = settings.final_learning_rate / settings.learning_rate
    done = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    left = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1 - done
    return final + (1 - final) * left


def _arguments(settings: Settings, folder: Path, device: str) -> TrainingArguments:
    args = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        warmup_steps=settings.warmup_steps,
        num_train_epochs=settings.epochs or 1,
        max_steps=settings.max_steps or -1,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        seed=settings.seed,
        report_to=[],
        disable_tqdm=True,
        use_cpu=device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=device != "cpu",
        label_names=["labels"],
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # the model is on one device; the Trainer would replicate it on all
    return args


class _Watcher(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports progress, and ends a run that diverges."""

    def __init__(self, task: Task, folder: Path, log: RunLog) -> None:
        self._task, self._folder, self._log = task, folder, log

    def count(self, mask: torch.Tensor) -> None:
        """Count the tokens of a batch."""
        self._log.tokens += int(mask.sum())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the progress bar."""
        self._task.advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write the step into the log. Raise if the loss is not finite, before the step is saved."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise diverged(self._folder, f"the loss is {loss} at step {state.global_step}")
        added = {name: logs[name] for name in ("penalty", "anchor") if name in logs}
        numbers = {"loss": loss, **added, "lr": logs.get("learning_rate"), "tokens": self._log.tokens}
        self._log.write(TRAINING, step=state.global_step, steps=state.max_steps, **numbers)


def diverged(folder: Path, what: str) -> Refusal:
    """The error for a run that diverged."""
    return Refusal(
        f"training diverged: {what}; nothing was committed",
        f"Lower learning_rate, and train in another folder than {folder}.",
    )


def _check_finite(model: Any, folder: Path) -> None:
    for name, weight in model.named_parameters():
        if weight.requires_grad and not torch.isfinite(weight).all():
            raise diverged(folder, f"{name} has entries that are not finite")


def _labelled(row: Tokenized) -> dict[str, list[int]]:
    labels = [token if learnt else IGNORED for token, learnt in zip(row.tokens, row.learnt, strict=True)]
    return {"input_ids": list(row.tokens), "labels": labels}


def collate(batch: Sequence[Mapping[str, Sequence[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Stack rows, padded on the right: int64 [batch, tokens]."""
    size = (len(batch), max(len(row["input_ids"]) for row in batch))
    tokens, mask, labels = torch.full(size, pad), torch.zeros(size, dtype=torch.int64), torch.full(size, IGNORED)
    for at, row in enumerate(batch):
        length = len(row["input_ids"])
        tokens[at, :length] = torch.tensor(row["input_ids"])
        labels[at, :length] = torch.tensor(row["labels"])
        mask[at, :length] = 1
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


@torch.no_grad()
def loss_of(
    model: Any, rows: Sequence[Tokenized], size: int, pad: int, label: str = "", progress: Progress = SILENT
) -> float:
    """Cross-entropy per counted token of all rows, in nats; `size` rows per batch. Progress is shown as `label`."""
    model.eval()
    device = model.get_input_embeddings().weight.device
    total = 0.0
    order = sorted(rows, key=lambda row: len(row.tokens))
    with progress.task(label, len(rows), "rows") as task:
        for start in range(0, len(order), size):
            batch = collate([_labelled(row) for row in order[start : start + size]], pad)
            inputs = {name: tensor.to(device) for name, tensor in batch.items()}
            labels = inputs.pop("labels")[:, 1:]
            logits = model(**inputs, use_cache=False).logits[:, :-1].float().transpose(1, 2)
            total += float(functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
            task.advance(len(order[start : start + size]))
    return total / max(1, sum(row.counted for row in rows))


def _save_options(model: Any) -> dict[str, bool]:
    """Without this option, PEFT looks on the hub to find out whether the vocabulary grew."""
    return {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}


def _publish(model: Any, trainer: Any, folder: Path, done: Fit) -> None:
    """Write the result atomically; `result.json` comes first, as `final` marks the run as finished."""
    with files.staged_folder(folder / FINAL) as staging:
        model.save_pretrained(staging, **_save_options(model))
        trainer.state.save_to_json(str(staging / "trainer_state.json"))
        files.write_file(folder / RESULT, (json.dumps(asdict(done)) + "\n").encode())
    if (folder / CHECKPOINTS).is_dir():
        files.remove_tree(folder / CHECKPOINTS)  # there is nothing left to resume


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Restore the caller's random states afterwards, because the Trainer seeds all generators."""
    state, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numbers)


@contextlib.contextmanager
def _within_quota() -> Iterator[None]:
    """Use at most as many threads as there are cores: torch does not know the limit of a container.

    How busy the machine is does not count, as another number of threads would give other bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, cores()))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' own output."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
