"""Where settings are found: the environment, files that hold one secret each, the env file."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream

from poller.settings.table import ENV_FILE

Problem: TypeAlias = tuple[str, str]
"""What is wrong (a setting, or a line of the env file), and why."""

ENVIRONMENT = "environment"
FILE = "_FILE"
"""Ends the name of a setting that is the path of a file with the value."""
_LONGEST_SECRET = 65536
_OTHERS = 0o044
_IMPLICIT = Path(".env")


class Found(NamedTuple):
    """A setting's text and where it came from."""

    text: str
    source: str


class EnvFile(msgspec.Struct, frozen=True, kw_only=True):
    """An env file, read.

    Attributes:
        values: name to text, for every line that says so.
        exposed: whether others than its owner can read it.
    """

    path: Path
    values: Mapping[str, str]
    exposed: bool = False
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def locate(environ: Mapping[str, str], chosen: Path | None) -> Path | None:
    """Say which env file to read: the chosen one, ``POLLER_ENV_FILE``, or ``.env`` here if there is one.

    No folder above is searched.
    """
    if chosen is not None:
        return chosen
    if environ.get(ENV_FILE):
        return Path(environ[ENV_FILE])
    return _IMPLICIT if _IMPLICIT.exists() and not _disabled(environ) else None


class Sources:
    """Looks settings up: environment, then ``NAME_FILE``, then env file. Empty counts as not given.

    Args:
        environ: the process environment; ``PYTHON_DOTENV_DISABLED`` in it turns the env file off.
        env_file: path of the env file, or None for none.
    """

    def __init__(self, environ: Mapping[str, str], env_file: Path | None) -> None:
        self.env_file = _env_file(environ, env_file)
        self._places = ((ENVIRONMENT, environ), (str(env_file), self.env_file.values))

    def find(self, name: str) -> Found | None:
        """Look up one setting.

        Raises:
            ValueError: it is given twice in one place, or its file cannot be read.
        """
        for place, values in self._places:
            text, file = values.get(name), values.get(name + FILE)
            if text and file:
                raise ValueError(f"is given twice in {place}; drop {name} or {name}{FILE}")
            if text:
                return Found(text, place)
            if file:
                return Found(_secret(name + FILE, file), name + FILE)
        return None

    def names(self) -> Iterator[tuple[str, str]]:
        """Give every name there is, and where."""
        for place, values in self._places:
            for name in values:
                yield name, place


def _secret(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST_SECRET).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {path!r} cannot be read: {_why(error)}") from None
    if not text:
        raise ValueError(f"{name}: {path!r} is empty; write the value into it")
    return text


def _env_file(environ: Mapping[str, str], path: Path | None) -> EnvFile:
    if path is None:
        return EnvFile(path=_IMPLICIT, values={})
    if _disabled(environ):
        return EnvFile(path=path, values={}, warnings=(f"{path} is not read: PYTHON_DOTENV_DISABLED is set",))
    return _read(path)


def _read(path: Path) -> EnvFile:
    """Read an env file as python-dotenv does, without interpolation; a ``$`` is a ``$``."""
    try:
        text = path.read_text(encoding="utf-8")
        exposed = bool(path.stat().st_mode & _OTHERS)
    except (OSError, ValueError) as error:
        return EnvFile(path=path, values={}, problems=((str(path), f"cannot be read: {_why(error)}"),))
    bindings = list(parse_stream(io.StringIO(text)))
    sound = "".join(binding.original.string for binding in bindings if not binding.error)
    values = dotenv_values(stream=io.StringIO(sound), interpolate=False)
    return EnvFile(
        path=path,
        values={name: value for name, value in values.items() if value is not None},
        exposed=exposed,
        problems=tuple(_problems(path, bindings)),
        warnings=tuple(_doubles(path, bindings)),
    )


def _problems(path: Path, bindings: list[Binding]) -> Iterator[Problem]:
    for binding in bindings:
        if binding.error:
            yield f"{path}, line {_line(binding)}", "is not NAME=value; check its quotes"
        elif binding.key is not None and binding.value is None:
            yield (
                f"{path}, line {_line(binding)}",
                f"{binding.key} has no value; write {binding.key}= to leave it empty",
            )


def _doubles(path: Path, bindings: list[Binding]) -> Iterator[str]:
    lines: dict[str, int] = {}
    for binding in bindings:
        if binding.key is None:
            continue
        if binding.key in lines:
            yield f"{path} has {binding.key} in lines {lines[binding.key]} and {_line(binding)}; the last one counts"
        lines[binding.key] = _line(binding)


def _line(binding: Binding) -> int:
    """Count past the empty lines that python-dotenv takes for the beginning of a binding."""
    text = binding.original.string
    blank = text[: len(text) - len(text.lstrip())]
    return binding.original.line + blank.count("\n")


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("PYTHON_DOTENV_DISABLED", "").casefold() in {"1", "true", "t", "yes", "y"}
