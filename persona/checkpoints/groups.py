"""Groups of files beside the weights that a run may bring: each is taken as a whole from one vector, or from the base.

    tokenizer        vocabulary, added tokens, special tokens, and how text is split
    chat_template    one template, or several by name; in files of its own or inside the tokenizer's configuration
    processor        how images, video and audio are prepared
    modules          what sentence-transformers runs after the model: modules.json and the folders that it lists

Groups are compared by meaning. Trainers rewrite files for reasons that do not affect the model (a new library version,
another padding side); only changes such as a new token or another template count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from persona.checkpoints.sidefiles import CODE
from persona.checkpoints.tokenizers import (
    PROCESSOR_CONFIG,
    TOKENIZER_CONFIG,
    Files,
    Meaning,
    has_parts,
    is_vocabulary,
    processor_meaning,
    table_of,
    tokenizer_meaning,
)
from persona.ids import blob_id

TOKENIZER, TEMPLATE, PROCESSOR, MODULES = GROUPS = ("tokenizer", "chat_template", "processor", "modules")

JINJA, TEMPLATE_JSON = "chat_template.jinja", "chat_template.json"
MORE_TEMPLATES = "additional_chat_templates/"
MODULES_JSON = "modules.json"

_NAMES = {
    TOKENIZER: re.compile(
        r"tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json|added_tokens\.json|tekken\.json|merges\.txt|"
        r"vocab\.(json|txt|bpe)|bpe\.codes|[^/]+\.(model|tiktoken|spm|vocab)"
    ),
    TEMPLATE: re.compile(rf"{re.escape(JINJA)}|{re.escape(TEMPLATE_JSON)}|{MORE_TEMPLATES}[^/]+\.jinja"),
    PROCESSOR: re.compile(r"([a-z]+_)?(pre)?processor_config\.json"),
    MODULES: re.compile(r"modules\.json|config_sentence_transformers\.json|sentence_[a-z]+_config\.json"),
}


def group_of(name: str) -> str | None:
    """The group that a file belongs to by its name; None for other files and those of folders of modules."""
    return next((group for group, names in _NAMES.items() if names.fullmatch(name)), None)


def title(group: str) -> str:
    """A group in messages: "chat template"."""
    return group.replace("_", " ")


def module_folders(modules: bytes | None) -> list[str]:
    """The folders that ``modules.json`` lists, as beginnings of names; without the model's own."""
    try:
        listed = json.loads(modules or b"[]")
        return [f"{module['path'].strip('/')}/" for module in listed if module.get("path")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def names_in(group: str, files: Mapping[str, Any], modules: bytes | None = None) -> list[str]:
    """Names of the files of a group; ``modules`` is the content of ``modules.json``."""
    folders = tuple(module_folders(modules)) if group == MODULES else ()
    return sorted(
        name
        for name in files
        if _NAMES[group].fullmatch(name) or (folders and name.startswith(folders) and not name.endswith(CODE))
    )


def compared(names: Iterable[str], modules: bytes | None) -> set[str]:
    """Those of a folder's files that belong to a group."""
    names = list(names)
    return {name for group in GROUPS for name in names_in(group, dict.fromkeys(names), modules)}


def of_group(group: str, files: Files) -> dict[str, bytes]:
    """The files of a group; for the template, those that have it."""
    if group == TEMPLATE:
        return _carriers(files)
    return {name: files[name] for name in names_in(group, files, files.get(MODULES_JSON))}


def effective(group: str, run: Files, base: Files) -> dict[str, bytes]:
    """The files of a group that a run works with: its own or, if they are only a part, with the base's below them."""
    own, theirs = of_group(group, run), of_group(group, base)
    if group == TOKENIZER:
        words = [name for name in own if is_vocabulary(name)]
        whole = bool(words) and TOKENIZER_CONFIG in own
        if any(theirs.get(name) != own[name] for name in words):  # the base's vocabulary is another
            theirs = {name: data for name, data in theirs.items() if not is_vocabulary(name)}
    elif group == PROCESSOR:
        whole = has_parts(own) or not has_parts(theirs)
    else:
        whole = group == TEMPLATE or MODULES_JSON in own
    return own if own and whole else {**theirs, **own}


def meaning(group: str, run: Files, base: Files) -> Meaning:
    """What a group of files of a run means; ``run`` is the base's own for the base."""
    files = effective(group, run, base)
    if group == TOKENIZER:
        return tokenizer_meaning(files, of_group(group, base))
    if group == PROCESSOR:
        return processor_meaning(files, of_group(group, base))
    if group == TEMPLATE:
        return {f"template {name}": text for name, text in (templates(files) or templates(base)).items()}
    return {name: _json_meaning(data) if name.endswith(".json") else blob_id(data) for name, data in files.items()}


def _json_meaning(data: bytes) -> Any:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return blob_id(data)
    return {key: item for key, item in value.items() if key != "__version__"} if isinstance(value, dict) else value


def differs(group: str, run: Files, base: Files) -> bool:
    """Whether a group of a run means something else than the base's; not if the run has no file of it."""
    own, theirs = of_group(group, run), of_group(group, base)
    if not own or (all(theirs.get(name) == data for name, data in own.items()) and len(own) == len(theirs)):
        return False
    return meaning(group, run, base) != meaning(group, base, base)


def changed(base: Files, run: Files) -> dict[str, list[str]]:
    """The groups in which a run differs from its base, and the names of the run's files in each."""
    return {group: sorted(of_group(group, run)) for group in GROUPS if differs(group, run, base)}


def difference(one: Meaning, other: Meaning) -> str:
    """The first aspects in which two meanings differ, with their values if these are short."""
    aspects = [key for key in dict.fromkeys([*one, *other]) if one.get(key) != other.get(key)]
    values = [(key, repr(one.get(key)), repr(other.get(key))) for key in aspects]
    shown = [f"{key} ({a} and {b})" if len(a) + len(b) <= 60 else key for key, a, b in values]
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")


def templates(files: Files) -> dict[str, str]:
    """Chat templates by name, from whichever file the version of transformers wrote them to."""
    for name, data in _carriers(files).items():
        if name in (TEMPLATE_JSON, TOKENIZER_CONFIG, PROCESSOR_CONFIG):
            return _named(table_of(data).get("chat_template"))
    return {
        "default" if name == JINJA else name.removeprefix(MORE_TEMPLATES).removesuffix(".jinja"): _utf8(data)
        for name, data in _carriers(files).items()
    }


def _carriers(files: Files) -> dict[str, bytes]:
    """The files that the template is read from."""
    own = {name: data for name, data in files.items() if name == JINJA or _is_more(name)}
    if own:
        return own
    for name in (TEMPLATE_JSON, TOKENIZER_CONFIG, PROCESSOR_CONFIG):
        if _named(table_of(files.get(name)).get("chat_template")):
            return {name: files[name]}
    return {}


def _is_more(name: str) -> bool:
    return name.startswith(MORE_TEMPLATES) and bool(_NAMES[TEMPLATE].fullmatch(name))


def _named(value: Any) -> dict[str, str]:
    """Templates as a configuration has them: one, a list of tables, or a table."""
    if isinstance(value, str):
        return {"default": value}
    if isinstance(value, list):
        value = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
    if not isinstance(value, dict):
        return {}
    return {str(name): text for name, text in value.items() if isinstance(text, str)}


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def put_templates(files: dict[str, bytes], source: Files) -> None:
    """Give ``files`` the templates of ``source`` in place, in the form in which ``source`` has them."""
    for name in [name for name in files if _NAMES[TEMPLATE].fullmatch(name)]:
        del files[name]
    for name in (TOKENIZER_CONFIG, PROCESSOR_CONFIG):
        _set_template(files, name, None)
    for name, data in _carriers(source).items():
        if name not in (TOKENIZER_CONFIG, PROCESSOR_CONFIG):
            files[name] = data
        elif name in files:
            _set_template(files, name, table_of(data)["chat_template"])
        else:
            files |= _as_jinja(templates(source))


def _as_jinja(named: Mapping[str, str]) -> dict[str, bytes]:
    names = {name: JINJA if name == "default" else f"{MORE_TEMPLATES}{name}.jinja" for name in named}
    return {names[name]: text.encode() for name, text in named.items() if _NAMES[TEMPLATE].fullmatch(names[name])}


def _set_template(files: dict[str, bytes], name: str, template: Any) -> None:
    table = table_of(files.get(name))
    if template is None and "chat_template" not in table:
        return
    table.pop("chat_template", None)
    table |= {} if template is None else {"chat_template": template}
    files[name] = (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()
