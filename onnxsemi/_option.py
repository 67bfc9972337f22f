"""An option is declared once: on the field of the settings that it sets.

    max_drop: Annotated[float, Option(Panel.SEARCH)] = 0.0
    "Percentage points that may be lost; see `tolerance`."

Name, type and default are the field's, and the text below it is its help. The command line, its
documentation, and what a run is made of are read from there. In a help, as in an error, other
settings are named as in Python, between backquotes: the command line makes ``--tolerance`` of
`tolerance`.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Container, Iterator
from dataclasses import KW_ONLY, dataclass, is_dataclass
from enum import Enum, StrEnum
from functools import cache
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Note = TypeVar("_Note")


class Panel(StrEnum):
    """Options that a help shows together, in the order of the panels."""

    IMAGES = "Images"
    FILE = "File"
    SEARCH = "Search"
    ROUNDING = "Rounding (method frontier)"
    INT8 = "Activations in uint8 (profile int8)"
    LAYERS = "Layers"
    RUN = "Run"
    PRINTED = "What is printed"


class Decides(Enum):
    """What a setting decides of a run."""

    MEASUREMENTS = "measurements"
    """What is measured: with another value it is another run."""
    KERNELS = "kernels"
    """Which kernels run, and so the last bits of what is measured. With another value it is another
    run; the default is not named, as runs are as old as it."""
    IMAGES = "images"
    """Which images there are, and their pixels: the fingerprints of the images tell."""
    CHOICE = "choice"
    """Which of the measured plans is taken: a run can be taken up again with another value."""
    COURSE = "course"
    """Whether, where and how long a run goes on."""
    NOTHING = "nothing"
    """No result."""


@dataclass(frozen=True)
class Option:
    """How a field of settings is an option of the command line.

    Attributes:
        panel: Where the help shows it.
        help: What it does; unless given, what stands below the field.
        flags: Its names, a long one first; made from the field's name if there are none.
        older: Names that are read, too, but not shown.
        metavar: What the help calls the value; the type's name unless given.
        read: Makes the value of a text, for what is more than a number, a path or a choice.
        repeated: Whether it may be given several times; each is read by itself.
        advanced: Whether only the whole help shows it.
        decides: What it decides of a run.
    """

    panel: Panel | None = None
    _: KW_ONLY
    help: str = ""
    flags: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    metavar: str | None = None
    read: Callable[[str], Any] | None = None
    repeated: bool = False
    advanced: bool = False
    decides: Decides = Decides.MEASUREMENTS


@dataclass(frozen=True)
class Without:
    """Settings that a command does not take; noted at the group that has them.

    Attributes:
        names: Names of their fields.
    """

    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Declared:
    """A field of settings, or a parameter of a command.

    Attributes:
        name: Its name.
        hint: Its type, with what it is annotated with.
        default: Its default; ``inspect.Parameter.empty`` if it must be given.
        below: The text that stands below it.
    """

    name: str
    hint: Any
    default: Any
    below: str = ""

    @property
    def kind(self) -> Any:
        """Its type alone."""
        return get_args(self.hint)[0] if get_origin(self.hint) is Annotated else self.hint

    @property
    def option(self) -> Option | None:
        """How it is an option of the command line; None if it is none."""
        return self.noted(Option)

    @property
    def help(self) -> str:
        """What it does."""
        own = self.option.help if self.option else ""
        return own or self.below

    @property
    def decides(self) -> Decides:
        """What it decides of a run: what is measured, if it does not say."""
        option = self.option
        return option.decides if option else self.noted(Decides) or Decides.MEASUREMENTS

    @property
    def group(self) -> Any | None:
        """The dataclass of settings that it holds; None if it is a setting itself."""
        union = get_origin(self.kind) in (Union, UnionType)
        kinds = get_args(self.kind) if union else (self.kind,)
        return next((kind for kind in kinds if is_dataclass(kind)), None)

    @property
    def flag(self) -> str:
        """The name that documents and runs call it by, such as ``--max-drop``."""
        flags = self.option.flags if self.option else ()
        return flags[0] if flags else f"--{self.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """The flag as a name of Python's."""
        return self.flag[2:].replace("-", "_")

    def noted(self, kind: type[_Note]) -> _Note | None:
        """What it is annotated with of a kind."""
        notes = getattr(self.hint, "__metadata__", ())
        return next((note for note in notes if isinstance(note, kind)), None)


def declared(owner: Any) -> tuple[Declared, ...]:
    """Fields of a dataclass, or parameters of a function, in their order."""
    hints, below = get_type_hints(owner, include_extras=True), _texts(owner)
    parameters = inspect.signature(owner).parameters
    return tuple(
        Declared(name, hints[name], parameter.default, below.get(name, ""))
        for name, parameter in parameters.items()
    )


@cache
def _texts(owner: Any) -> dict[str, str]:
    """Field of a dataclass, or of its bases -> the text that stands below it, in one line."""
    if not inspect.isclass(owner):
        return {}
    found: dict[str, str] = {}
    for kind in reversed([kind for kind in owner.__mro__ if is_dataclass(kind)]):
        try:
            source = inspect.getsource(kind)
        except OSError:  # shipped without its sources: a help without texts, and all else as it is
            continue
        (tree,) = ast.parse(textwrap.dedent(source)).body
        for field, text in pairwise(tree.body if isinstance(tree, ast.ClassDef) else ()):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(said))):
                    found[name] = " ".join(said.split())
    return found


def settings_of(owner: Any, *, without: Container[str] = ()) -> Iterator[Declared]:
    """The same with the fields of each group in place of the group."""
    for each in declared(owner):
        if each.name in without:
            continue
        if each.group is None:
            yield each
            continue
        left = each.noted(Without) or Without()
        yield from settings_of(each.group, without=left.names)


def values_of(settings: Any) -> Iterator[tuple[Declared, Any]]:
    """Every setting with its value; those of a group that is None have none."""
    for each in declared(type(settings)):
        value = getattr(settings, each.name)
        if each.group is None:
            yield each, value
        elif value is not None:
            yield from values_of(value)


def options_of(owner: Any) -> Iterator[tuple[Declared, Option]]:
    """Settings that are options of the command line, each with its option."""
    for each in settings_of(owner):
        if each.option is not None:
            yield each, each.option
