"""Results that show themselves: a few lines at a prompt, a small table in a notebook."""

from collections.abc import Sequence
from html import escape

from onnxsemi._visible import shown_line


class Brief:
    """A result whose ``repr`` is no more than five lines, whatever it holds."""

    @property
    def brief(self) -> Sequence[tuple[str, str]]:
        """What a reader wants to know first, by name; five at the most."""
        raise NotImplementedError

    def _shown(self) -> list[tuple[str, str]]:
        return [(name, shown_line(value)) for name, value in self.brief]

    def __repr__(self) -> str:
        """A line for each, the first beside the name of the class."""
        (_, first), *others = self._shown()
        width = max((len(name) for name, _ in others), default=0)
        lines = [f"  {name:{width}}  {value}" for name, value in others]
        return "\n".join([f"{type(self).__name__}: {first}", *lines])

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        (_, first), *others = self._shown()
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in others
        )
        head = escape(f"{type(self).__name__}: {first}")
        return f"<table><caption style='text-align:left'>{head}</caption>{rows}</table>"
