"""A service's settings: one table, read from flags, the environment and a file, in this order of precedence.

A setting has one name in three spellings: `--token-issuer`, `BYOK_SIGNER_TOKEN_ISSUER`, and `token-issuer:` in the
YAML file. `Program.read` is a function of its arguments and of the files that they name; nothing else reads the
environment.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from byok_api.manifests import SIZE_LIMIT, ManifestError, load_documents
from byok_service.setting_types import Setting

_CONFIG = "config"
_CONFIG_LIMIT = 64 * 1024
# A Service makes the kubelet set variables of its name in every pod of its namespace (Kubernetes, "Accessing the
# Service", environment variables): they must neither be settings nor be refused as unknown ones.
_SERVICE_LINK = (
    r"(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class SettingsError(Exception):
    """Settings that cannot be used: one line for each, naming the setting and what is expected."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class _Given:
    value: object
    origin: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse quotes what stands behind a flag that takes nothing, as in -https-proxy=URL, which it reads as -h.
        said = re.sub(r"(ignored explicit argument) .*", r"\1", message, flags=re.DOTALL)
        raise SettingsError(f"{said}; {self.prog} --help lists all settings")


_Settings = TypeVar("_Settings", bound=BaseModel)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Program(Generic[_Settings]):
    """A program by its name, `byok-signer`, and the model of its settings, each field with its `Setting`."""

    name: str
    description: str
    model: type[_Settings]
    foreign: frozenset[str] = frozenset()
    """Variables that share the prefix and are not meant for the program."""

    def read(self, arguments: Sequence[str], environ: Mapping[str, str]) -> _Settings:
        """Read flags, then the environment, then the file that `--config` names; SettingsError lists all that is wrong.

        Last come the variables of other programs' that a setting goes by too.

        `--help` prints and raises SystemExit(0), as argparse does.
        """
        flags = self._read_flags(arguments)
        variables = self._read_environment(environ)
        config = flags.pop(_CONFIG, None) or variables.pop(_CONFIG, None)
        variables.pop(_CONFIG, None)
        given = self._read_others(environ) | (self._read_file(config) if config else {}) | variables | flags
        # An empty path would be the working directory.
        empty = [f"{source.origin}: expected a value, found ''" for source in given.values() if source.value == ""]
        if empty:
            raise SettingsError(*empty)
        try:
            return self.model.model_validate({name: source.value for name, source in given.items()})
        except ValidationError as error:
            raise SettingsError(*self._explain(error, given)) from None

    def read_or_exit(self, arguments: Sequence[str], environ: Mapping[str, str]) -> _Settings:
        """Read the settings; print what is wrong with them, one line each, and end the process with status 2."""
        try:
            return self.read(arguments, environ)
        except SettingsError as error:
            self.exit_for(error)

    def exit_for(self, error: SettingsError) -> NoReturn:
        """Print what is wrong with the settings and end the process with status 2."""
        for line in error.lines:
            print(f"{self.name}: {line}", file=sys.stderr)  # noqa: T201 - the user's answer, before logging exists
        raise SystemExit(2)

    @property
    def _prefix(self) -> str:
        return self.name.upper().replace("-", "_") + "_"

    def _variable(self, name: str) -> str:
        return self._prefix + name.upper()

    def _parser(self) -> _Parser:
        parser = _Parser(
            prog=self.name,
            usage=f"{self.name} [--config FILE] [--SETTING VALUE]...",
            description=self.description,
            epilog="A flag wins over its environment variable, which wins over the file. In the file a setting has "
            "its flag's name without the dashes. Wrong settings are named, one line each, and end the process with "
            "status 2.",
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        config = f"YAML file of settings. [{self._variable(_CONFIG)}]"
        parser.add_argument(_flag(_CONFIG), dest=_CONFIG, metavar="FILE", help=config)
        for name, field in self.model.model_fields.items():
            setting = _setting(field)
            variables = ", ".join((self._variable(name), *setting.also))
            text = f"{setting.meaning} [{variables}; {_default(field)}]".replace("%", "%%")
            parser.add_argument(_flag(name), dest=name, metavar=setting.form, help=text)
        return parser

    def _read_flags(self, arguments: Sequence[str]) -> dict[str, _Given]:
        values, unknown = self._parser().parse_known_args(arguments)
        if unknown:
            if re.match("--?[A-Za-z]", unknown[0]) is None:
                expected = f"expected --SETTING VALUE; {self.name} --help lists all settings"
                raise SettingsError(f"a value without a setting: {expected}")
            raise SettingsError(self._unknown(unknown[0], [_flag(name) for name in self.model.model_fields]))
        return {name: _Given(value, _flag(name)) for name, value in vars(values).items()}

    def _read_environment(self, environ: Mapping[str, str]) -> dict[str, _Given]:
        names = {self._variable(name): name for name in (_CONFIG, *self.model.model_fields)}
        ours = [name for name in environ if name.startswith(self._prefix) and name not in self.foreign]
        unknown = sorted(
            name for name in ours if name not in names and re.fullmatch(self._prefix + _SERVICE_LINK, name) is None
        )
        if unknown:
            raise SettingsError(*(self._unknown(name, list(names)) for name in unknown))
        # Templates leave a variable empty when they mean unset.
        return {names[name]: _Given(environ[name], name) for name in ours if name in names and environ[name]}

    def _read_others(self, environ: Mapping[str, str]) -> dict[str, _Given]:
        found: dict[str, _Given] = {}
        for name, field in self.model.model_fields.items():
            variable = next((variable for variable in _setting(field).also if environ.get(variable)), None)
            if variable is not None:
                found[name] = _Given(environ[variable], variable)
        return found

    def _read_file(self, given: _Given) -> dict[str, _Given]:
        source = f"{given.origin} {given.value}"
        try:
            with Path(str(given.value)).open("rb") as file:
                content = file.read(_CONFIG_LIMIT + 1)
        except OSError as error:
            raise SettingsError(f"{source}: cannot be read: {error.strerror}") from None
        if len(content) > _CONFIG_LIMIT:
            raise SettingsError(f"{source}: larger than {_CONFIG_LIMIT} bytes")
        document = _load_mapping(content, source)
        names = {_flag(name).removeprefix("--"): name for name in self.model.model_fields}
        unknown = [key for key in document if key not in names]
        if unknown:
            raise SettingsError(*(f"{source}: {self._unknown(key, list(names))}" for key in unknown))
        return {
            names[key]: _Given(value, f"{key} in {given.value}") for key, value in document.items() if value is not None
        }

    def _unknown(self, given: str, known: Sequence[str]) -> str:
        """Name what is no setting, up to where its value may begin: that of --https-proxi can hold a password."""
        name = re.split(r"[^A-Za-z0-9_.-]", given, maxsplit=1)[0]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"{self.name} --help lists all settings"
        return f"{name[:80]}: no such setting; {hint}"

    def _explain(self, error: ValidationError, given: Mapping[str, _Given]) -> list[str]:
        """Turn pydantic's findings into one line for each setting."""
        lines: dict[str, str] = {}
        for finding in error.errors(include_url=False, include_context=False):
            name = str(finding["loc"][0]) if finding["loc"] else ""
            if not name:
                line = finding["msg"]
            elif name not in given:
                setting = _setting(self.model.model_fields[name])
                line = f"{_flag(name)} ({self._variable(name)}): required: {setting.meaning}"
            else:
                is_secret = _setting(self.model.model_fields[name]).is_secret
                found = "something else" if is_secret else repr(_without_user(str(given[name].value))[:120])
                line = f"{given[name].origin}: {finding['msg']}, found {found}"
            lines.setdefault(name, line)
        return list(lines.values())


def _without_user(text: str) -> str:
    """Leave out user and password of a URL, which may be given where none belongs."""
    return re.sub(r"//.*@", "//...@", text, flags=re.DOTALL)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _setting(field: FieldInfo) -> Setting:
    return next(item for item in field.metadata if isinstance(item, Setting))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, ()):
        return "unset"
    if isinstance(field.default, bool):
        return f"default {str(field.default).lower()}"
    return f"default {field.default}"


def _load_mapping(content: bytes, source: str) -> dict[str, Any]:
    try:
        documents = load_documents(content, source)
    except ManifestError as error:
        raise SettingsError(error.message) from None
    if len(documents) > 1:
        raise SettingsError(f"{source}: expected one YAML document, found {len(documents)}")
    return documents[0] if documents else {}


def parsed(flag: str, path: Path, parse: Callable[[bytes, str], _T]) -> _T:
    """Read the file that a setting names; `parse` takes its content and name. SettingsError if that cannot be done."""
    try:
        with path.open("rb") as file:
            return parse(file.read(SIZE_LIMIT + 1), str(path))
    except OSError as error:
        raise SettingsError(f"{flag} {path}: cannot be read: {error.strerror}") from None
    except ManifestError as error:
        raise SettingsError(f"{flag}: {error.message}") from None
