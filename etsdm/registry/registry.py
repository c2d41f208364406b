"""`Registry`: the parts of one family, by name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import InspectLoader
from importlib.metadata import EntryPoint
from pkgutil import walk_packages
from types import ModuleType
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import ValidationError

from etsdm.errors import RegistryError
from etsdm.registry.frozen import format_errors, quoted, suggestion
from etsdm.registry.part import Part
from etsdm.registry.plugins import find_plugins, load_plugin, origin_of

__all__ = ["Registry"]

P = TypeVar("P", bound=Part)
Q = TypeVar("Q", bound=type[Part])

_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")
_REGISTERS = re.compile(r"\.(register|preset)\(")


class Entry(NamedTuple):
    """A registered class, with the field values of a preset."""

    part: type[Part]
    fields: dict[str, Any]
    description: str
    origin: str


def _origin(part: type[Part]) -> str:
    return f"{part.__module__}.{part.__qualname__}"


class Registry(Generic[P]):
    """The classes of one family of parts, by name.

    Built-in parts live in the modules of the package `home`, which are imported at the first lookup. Plug-ins of other distributions
    are entry points in the group `etsdm.<name>`: the entry point's name is the part's name, its object the class.

    Args:
        name: plural name of the registry, as in `etsdm.registry`.
        home: package whose modules register the built-in parts.
        noun: singular name of one entry, for messages.
    """

    def __init__(self, name: str, home: str, noun: str) -> None:
        self.name = name
        self.home = home
        self.noun = noun
        self._entries: dict[str, Entry] = {}
        self._loaded = False
        self._plugin_of: dict[str, str] = {}
        self._warned: set[str] = set()

    @property
    def _a_noun(self) -> str:
        return f"{'an' if self.noun[0] in 'aeiou' else 'a'} {self.noun}"

    def register(self, name: str) -> Callable[[Q], Q]:
        """Class decorator that registers a part under a kebab-case name. Raises: RegistryError if the name is taken."""

        def decorate(part: Q) -> Q:
            lines = (inspect.getdoc(part) or "").strip().splitlines()
            self._add(name, Entry(part, {}, lines[0] if lines else "", _origin(part)))
            part.type_name = name
            return part

        return decorate

    def preset(self, name: str, part: type[Part], description: str, **fields: Any) -> None:
        """Registers a name for a class with some fields set; its dump has the class's own `type`."""
        self._add(name, Entry(part, fields, description, f"{_origin(part)}, preset {name}"))

    def names(self) -> list[str]:
        """All names in alphabetical order: built-in parts, presets and plug-ins."""
        return sorted({*self._load(), *self._plugins()})

    def create(self, name: str, /, **fields: Any) -> P:
        """Makes a part from its name and fields. Raises: RegistryError for an unknown name or an invalid field."""
        return self.make({"type": name, **fields})

    def parse(self, value: Any) -> P:
        """Makes a part from a recipe's value: an instance, a mapping with a `type`, or a bare name.

        Raises:
            RegistryError: the name is unknown, or the value is of another kind.
            pydantic.ValidationError: a field is invalid; its location is relative to the part.
        """
        if isinstance(value, Part) and getattr(value, "family", None) is self:
            return value  # type: ignore[return-value]
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, Mapping):
            raise RegistryError(
                f"found {self._found(value)}; give the name of {self._a_noun} or a mapping with `type` ({', '.join(self.names())})"
            )
        if not isinstance(value.get("type"), str):
            raise RegistryError(f"{self._a_noun} needs `type`, one of: {', '.join(self.names())}")
        entry = self._entry(value["type"])
        given = {key: field for key, field in value.items() if key != "type"}
        return entry.part.model_validate({**entry.fields, **given})  # type: ignore[return-value]

    def make(self, value: Any) -> P:
        """`parse` for Python calls. Raises: RegistryError also for an invalid field, which it names."""
        try:
            return self.parse(value)
        except ValidationError as error:
            problems = "; ".join(f"{problem.field}: {problem.message}" for problem in format_errors(error))
            raise RegistryError(f"{self.noun} {value['type']!r}: {problems}") from None

    def describe(self, name: str) -> str:
        """The first line of the part's docstring, or the preset's description."""
        return self._entry(name).description

    def defaults(self, name: str) -> dict[str, Any]:
        """The field values of a preset; empty for a class."""
        return dict(self._entry(name).fields)

    def classes(self) -> dict[str, type[P]]:
        """All registered classes by name, plug-ins included, without presets."""
        return {name: self[name] for name in self.loadable() if not self._entry(name).fields}

    def loadable(self) -> list[str]:
        """`names` without plug-ins that do not load. Warns: UserWarning: of each of these, once."""
        return [name for name in self.names() if self._loads(name)]

    def is_plugin(self, name: str) -> bool:
        """Whether a part comes from another distribution."""
        return name in self._plugin_of

    def __getitem__(self, name: str) -> type[P]:
        return self._entry(name).part  # type: ignore[return-value]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __repr__(self) -> str:
        return f"Registry({self.name!r}: {', '.join(self.names())})"

    def _add(self, name: str, entry: Entry) -> None:
        if not _NAME.fullmatch(name):
            raise RegistryError(f"{name!r} is no name for {self._a_noun}; use lower case, digits and hyphens ({entry.origin})")
        taken = self._entries.get(name)
        # The same class again is a module that was reloaded or a notebook cell that was run twice.
        if taken and taken.origin != entry.origin:
            raise RegistryError(f"two parts are called {self.noun} {name!r}: {taken.origin} and {entry.origin}; rename one")
        self._entries[name] = entry

    def _load(self) -> dict[str, Entry]:
        home = importlib.import_module(self.home)
        if not self._loaded:
            self._loaded = True  # before the imports, which may ask for a part themselves
            for name in _registering_modules(home):
                importlib.import_module(name)
        return self._entries

    def _loads(self, name: str) -> bool:
        try:
            self._entry(name)
        except RegistryError as error:
            self._warn(f"{error}; it is left out")
            return False
        return True

    def _plugins(self) -> dict[str, EntryPoint]:
        """The plug-ins with a name of their own, by name."""
        offered, broken = find_plugins(f"etsdm.{self.name}")
        for message in broken:
            self._warn(message)
        found: dict[str, EntryPoint] = {}
        for name, points in offered.items():
            built_in = self._entries.get(name)
            imported = built_in and built_in.origin == f"{points[0].module}.{points[0].attr}"
            if built_in and not imported and name not in self._plugin_of:
                origins = f"{built_in.origin} and {origin_of(points[0])}"
                self._warn(f"two parts are called {self.noun} {name!r}: {origins}; the plug-in is left out, remove it")
            elif len(points) > 1:
                self._warn(f"{self._ambiguous(name, points)}; both are left out")
            else:
                found[name] = points[0]
        return found

    def _ambiguous(self, name: str, points: list[EntryPoint]) -> str:
        return f"two plug-ins offer {self.noun} {name!r}: {' and '.join(origin_of(point) for point in points)}; remove one"

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=3)

    def _found(self, value: Any) -> str:
        """A value for a message: an object of another kind, such as a network, by its type alone."""
        plain = value is None or isinstance(value, (bool, int, float, list, tuple, dict))
        return quoted(value) if plain else f"a {type(value).__name__}"

    def _entry(self, name: str) -> Entry:
        entries = self._load()
        if name not in entries:
            offered, _ = find_plugins(f"etsdm.{self.name}")
            points = offered.get(name, [])
            if len(points) > 1:
                raise RegistryError(self._ambiguous(name, points))
            if not points:
                known = {*entries, *self._plugins()}
                raise RegistryError(f"unknown {self.noun} {quoted(name)}; {suggestion(name, known, 'known')}")
            self._load_plugin(name, points[0])
        return entries[name]

    def _load_plugin(self, name: str, point: EntryPoint) -> None:
        before = dict(self._entries)
        try:
            part = load_plugin(point)
            if not (isinstance(part, type) and issubclass(part, Part) and getattr(part, "family", None) is self):
                raise RegistryError(f"the plug-in {origin_of(point)} is not a class of that family; mend it or remove it")
            # Importing the plug-in may have registered the class by its decorator.
            if name not in self._entries:
                self.register(name)(part)
        except RegistryError as error:
            # What it registered before it failed is no part either.
            self._entries.clear()
            self._entries.update(before)
            raise RegistryError(f"{self.noun} {name!r}: {error}") from error
        self._plugin_of[name] = point.value


def _registering_modules(home: ModuleType) -> Iterator[str]:
    """Modules of a package whose source registers parts. The others have nothing to list and may be slow to import."""
    for module in walk_packages(getattr(home, "__path__", ()), f"{home.__name__}."):
        spec = importlib.util.find_spec(module.name)
        if spec and isinstance(spec.loader, InspectLoader) and _REGISTERS.search(spec.loader.get_source(module.name) or ""):
            yield module.name
