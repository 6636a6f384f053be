"""What the value of an inventory variable may be: kinds, and the reading of a raw value into its type."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Literal

Kind = Literal[
    "string",
    "integer",
    "number",
    "seconds",
    "boolean",
    "ports",
    "strings",
    "networks",
    "directives",
    "port directives",
    "port versions",
    "port numbers",
    "environment",
    "sysctl",
    "versions",
    "file",
    "directory",
    "host path",
]

_KIND_IN_WORDS: dict[Kind, str] = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "seconds": "a number of seconds",
    "boolean": "true or false",
    "ports": "a list of port numbers",
    "strings": "a list of strings",
    "networks": "a list of networks, as 10.0.0.0/8",
    "directives": "a mapping of redis.conf directives to values",
    "port directives": "a mapping of ports to mappings of redis.conf directives",
    "port versions": "a mapping of ports to versions",
    "port numbers": "a mapping of ports to numbers",
    "environment": "a mapping of names to strings",
    "sysctl": "a mapping of kernel settings to numbers or strings",
    "versions": "a list of mappings with version and archive, and perhaps checksum",
    "file": "a path",
    "directory": "a path",
    "host path": "a path",
}
VERSION_FORM: dict[str, Any] = {
    "pattern": r"\d+\.\d+(\.\d+)?(-[A-Za-z0-9.]+)?",
    "pattern_words": 'a version such as "7.2.16"',
}
CHECKSUM_FORM: dict[str, Any] = {
    "pattern": r"(sha256:)?[0-9A-Fa-f]{64}",
    "pattern_words": "64 hexadecimal digits, or sha256: and 64 hexadecimal digits",
}
_ENTRY_KINDS: dict[str, Kind] = {"version": "string", "archive": "file", "checksum": "string"}
_ENTRY_FORMS: dict[str, dict[str, Any]] = {"version": VERSION_FORM, "checksum": CHECKSUM_FORM}
_SETTING_NAMES: dict[Kind, tuple[str, str]] = {
    "environment": (r"[A-Za-z_][A-Za-z0-9_]*", "an environment variable"),
    "sysctl": (r"[a-z0-9_]+([./][A-Za-z0-9_-]+)+", "a kernel setting, such as vm.swappiness"),
}
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_PLACEHOLDER = re.compile(
    r"(change|replace|fill)[-_ ]?(me|this|it|in)|todo|fixme|tbd|your[-_ ]?\w+|put .* here|x{3,}|\.\.\.|<[^<>]*>",
    re.IGNORECASE,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Variable:
    """One inventory variable.

    agree: every host of one cluster must have the same value.
    low, high: bounds of a number, both included. pattern: what a string must match as a whole, pattern_words says it.
    default: the value when no host sets it; None means "not set". may_be_empty: an empty string is a value.
    """

    name: str
    kind: Kind
    doc: str
    default: Any = None
    required: bool = False
    agree: bool = False
    secret: bool = False
    may_be_empty: bool = False
    choices: tuple[str, ...] = ()
    low: float = 0
    high: float = float("inf")
    pattern: str = ""
    pattern_words: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value whose template or vault could not be evaluated."""

    reason: str


class WrongValueError(Exception):
    """A value that cannot be used: code, what and remedy as in Finding."""

    def __init__(self, code: str, what: str, remedy: str) -> None:
        self.code, self.what, self.remedy = code, what, remedy
        super().__init__(what)


def read(variable: Variable, value: Any) -> Any:
    """The value in its proper type. Raises WrongValueError.

    As Ansible does, numbers and booleans are taken from strings too ("2", "yes"), for `-e name=value` gives strings.
    Strings are not taken from numbers or booleans: YAML has by then changed what was written (`no`, `1.10`, `007`).
    """
    if isinstance(value, Unreadable):
        raise undefined(value)
    if value is None:
        if variable.required:
            first = variable.doc.partition(".")[0]
            raise WrongValueError("missing", "it is not set", f"set {variable.name} ({first[:1].lower()}{first[1:]})")
        return variable.default
    match variable.kind:
        case "string" | "file" | "directory" | "host path":
            return _string(variable, value)
        case "integer" | "number" | "seconds":
            return _number(variable, value)
        case "boolean":
            return _boolean(variable, value)
        case "ports":
            return _ports(variable, value)
        case "strings" | "networks":
            return _strings(variable, value)
        case "port versions":
            return _by_port(variable, value, _string)
        case "port numbers":
            return _by_port(variable, value, _number)
        case "environment" | "sysctl":
            return _settings(variable, value)
        case "versions":
            return _versions(variable, value)
        case "directives" | "port directives":
            if not isinstance(value, dict):
                raise _wrong_type(variable, value)
            return value


def undefined(value: Unreadable) -> WrongValueError:
    what = f"its template or vault text cannot be evaluated: {value.reason.strip().rstrip('.')}"
    return WrongValueError("undefined", what, "define the variables and give the vault password that it needs")


def in_words(value: Any) -> str:
    """A value as a message shows it: short, and in YAML's words."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _string(variable: Variable, value: Any) -> str:
    if not isinstance(value, str):
        if isinstance(value, bool | int | float):
            shown = "it" if variable.secret else in_words(value)
            what = f"it must be a string, but YAML reads {shown} as a {_type_in_words(value)}"
            raise WrongValueError("wrong-type", what, "put the value in quotes")
        raise _wrong_type(variable, value)
    if variable.may_be_empty and not value:
        return value
    if not value.strip():
        raise WrongValueError(
            "empty-value",
            "it is empty",
            f"give {variable.name} a value, or leave it out for its default"
            if not variable.required
            else f"give {variable.name} a value",
        )
    if "{{" in value or "{%" in value or value.startswith("$ANSIBLE_VAULT"):
        raise WrongValueError(
            "placeholder",
            "it is still a template or a vault text, not a value",
            "write templates plainly and vault texts with the !vault tag, so that Ansible evaluates them",
        )
    if _PLACEHOLDER.fullmatch(value.strip()):
        raise WrongValueError("placeholder", "it is still a placeholder", f"give {variable.name} its real value")
    if _CONTROL.search(value) or (value != value.strip() and not variable.secret):
        raise WrongValueError(
            "bad-string", "it has a line break, a control character or blanks at an end", "take these out"
        )
    if variable.choices and value not in variable.choices:
        near = difflib.get_close_matches(value.lower(), variable.choices, n=1)
        remedy = f"write {near[0]}, if that is meant" if near else f"use {' or '.join(variable.choices)}"
        raise WrongValueError("not-a-choice", f"{in_words(value)} is none of {', '.join(variable.choices)}", remedy)
    if variable.pattern and not re.fullmatch(variable.pattern, value):
        raise WrongValueError(
            "bad-string", f"{in_words(value)} is not of the right form", f"write {variable.pattern_words}"
        )
    if variable.kind in ("file", "directory", "host path") and not value.startswith(("/", "~/")):
        raise WrongValueError(
            "relative-path",
            f"{in_words(value)} is relative, and means another file in another working directory",
            'write an absolute path, such as "{{ inventory_dir }}/' + value.removeprefix("./") + '"',
        )
    return value


def _number(variable: Variable, value: Any) -> int | float:
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        value = int(value)
    wanted = (int,) if variable.kind == "integer" else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise _wrong_type(variable, value)
    assert isinstance(value, int | float)
    if not variable.low <= value <= variable.high:
        raise WrongValueError(
            "out-of-range",
            f"{value} is out of range",
            f"use {variable.low:g} to {variable.high:g}{' seconds' * (variable.kind == 'seconds')}",
        )
    return value


def _boolean(variable: Variable, value: Any) -> bool:
    if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
        return value.lower() in _TRUE
    if not isinstance(value, bool):
        raise _wrong_type(variable, value)
    return value


def _ports(variable: Variable, value: Any) -> list[int]:
    if not isinstance(value, list):
        hint = f"write [{value}]" if isinstance(value, int | str) and not isinstance(value, bool) else "write a list"
        raise WrongValueError("wrong-type", f"it must be a list of port numbers, not {in_words(value)}", hint)
    if not value:
        raise WrongValueError(
            "empty-value", "the list is empty", "name at least one port, or leave the variable out for [6379]"
        )
    ports = []
    for item in value:
        if isinstance(item, Unreadable):
            raise undefined(item)
        port = int(item) if isinstance(item, str) and item.isdecimal() else item
        if isinstance(port, bool) or not isinstance(port, int):
            raise WrongValueError(
                "wrong-type", f"{in_words(item)} is not a port number", "write ports as whole numbers"
            )
        if not 1 <= port <= 65535:
            raise WrongValueError("port-range", f"port {port} does not exist", "use ports from 1 to 55535")
        if port > 55535:
            raise WrongValueError(
                "bus-port-range",
                f"port {port} leaves no cluster bus port: {port} + 10000 is above 65535",
                "use ports up to 55535",
            )
        if port in ports:
            raise WrongValueError("duplicate-port", f"port {port} is listed twice", "list each port once")
        ports.append(port)
    for port in ports:
        if port + 10000 in ports:
            raise WrongValueError(
                "bus-port-clash",
                f"port {port + 10000} is the cluster bus port of the instance at {port}",
                f"use another port than {port + 10000}",
            )
    return ports


def _strings(variable: Variable, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _wrong_type(variable, value)
    read = [_string(variable, item) for item in value]
    for text in read if variable.kind == "networks" else ():
        try:
            ip_network(text)
        except ValueError as error:
            remedy = 'write an IP address or a network, such as "10.1.0.0/16"'
            raise WrongValueError("not-a-network", f"{in_words(text)} is no network: {error}", remedy) from None
    return read


def _by_port(variable: Variable, value: Any, read_one: Callable[[Variable, Any], Any]) -> dict[int, Any]:
    """Keys that are no ports are named by the caller, which knows the host's ports."""
    if not isinstance(value, dict):
        raise _wrong_type(variable, value)
    read = {}
    for port, item in value.items():
        number = int(port) if isinstance(port, str) and port.isdecimal() else port
        if isinstance(number, bool) or not isinstance(number, int):
            what = f"its keys must be ports, but {in_words(port)} is none"
            raise WrongValueError("wrong-type", what, f"write {_KIND_IN_WORDS[variable.kind]}")
        read[number] = read_one(variable, undefined_or(item))
    return read


def _settings(variable: Variable, value: Any) -> dict[str, str]:
    """Names to texts. Numbers are written as they are read; a boolean has no one way to be written."""
    if not isinstance(value, dict):
        raise _wrong_type(variable, value)
    form, meaning = _SETTING_NAMES[variable.kind]
    read = {}
    for name, text in value.items():
        if not isinstance(name, str) or not re.fullmatch(form, name):
            raise WrongValueError("bad-name", f"{in_words(name)} is not the name of {meaning}", "correct the name")
        text = undefined_or(text)
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            what = f"the value of {name} must be a string or a number, not {_type_in_words(text)}"
            raise WrongValueError("wrong-type", what, "put the value in quotes")
        if _CONTROL.search(str(text)):
            raise WrongValueError("bad-string", f"the value of {name} has a line break", "take it out")
        read[name] = str(text)
    return read


def _versions(variable: Variable, value: Any) -> list[dict[str, str]]:
    if not isinstance(value, list):
        raise _wrong_type(variable, value)
    known = ("version", "archive", "checksum")
    for entry in value:
        if not isinstance(entry, dict) or not {"version", "archive"} <= set(entry) <= set(known):
            remedy = "write {version: ..., archive: ...} for each, with checksum if there is one"
            raise WrongValueError("wrong-type", f"{in_words(entry)} is not an entry of the list", remedy)
        for name, text in entry.items():
            _string(Variable(f"{variable.name}[].{name}", _ENTRY_KINDS[name], "", **_ENTRY_FORMS.get(name, {})), text)
    return value


def undefined_or(value: Any) -> Any:
    if isinstance(value, Unreadable):
        raise undefined(value)
    return value


def _wrong_type(variable: Variable, value: Any) -> WrongValueError:
    what = f"it must be {_KIND_IN_WORDS[variable.kind]}, not {_shown(variable, value)}"
    return WrongValueError("wrong-type", what, f"write {_KIND_IN_WORDS[variable.kind]}")


def _shown(variable: Variable, value: Any) -> str:
    return f"a {_type_in_words(value)}" if variable.secret or isinstance(value, dict | list) else in_words(value)


def _type_in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "number", float: "number", str: "string", list: "list", dict: "mapping"}
    return next((word for kind, word in names.items() if isinstance(value, kind)), type(value).__name__)
