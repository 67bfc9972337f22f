"""How what comes from models, labels and files is shown: wherever anyone reads it, by this alone.

Names of others may hold what a terminal obeys, what turns the text around it, what cannot be seen,
and any length. Characters without a shape of their own are shown as their code, and the middle of
what is too long is left out: of a word within it, of a line between two words.
"""

import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's categories of characters that have no shape of their own."""

LONGEST_WORD = 400
LONGEST_LINE = 1200
LONGEST_TEXT = 8 * LONGEST_LINE
_CUT = " ... "


def visible(text: str) -> str:
    r"""Text in which everything can be seen; line breaks and tabs stay.

    >>> visible("a\x1b[31m\u202eb\n")
    'a⟨1B⟩[31m⟨202E⟩b\n'
    """
    if text.isprintable():
        return text
    return "".join(
        f"⟨{ord(c):X}⟩" if c not in "\n\t" and unicodedata.category(c) in _UNSEEN else c
        for c in text
    )


def shown(text: str) -> str:
    """Text of others for a page or a table: visible, and neither it nor a word without end.

    >>> shown("a" * 1000 + " b") == "a" * 200 + "..." + "a" * 200 + " b"
    True
    """
    seen = visible(text)
    if len(seen) <= LONGEST_WORD:
        return seen
    return _cut(" ".join(map(_short_word, seen.split(" "))), LONGEST_TEXT)


def shown_line(text: str, longest: int = LONGEST_LINE) -> str:
    r"""The same on one line, which is not without end either.

    >>> shown_line("a\nb"), shown_line("one two three four five", longest=16)
    ('a b', 'one ... five')
    """
    return _cut(shown(" ".join(filter(None, (p.strip() for p in text.splitlines())))), longest)


def _cut(line: str, longest: int) -> str:
    """Without its middle, if it is too long."""
    if len(line) <= longest:
        return line
    half = (longest - len(_CUT)) // 2
    before, after = line[: half + 1], line[-half - 1 :]
    if " " in before:
        before = before[: before.rindex(" ")]
    if " " in after:
        after = after[after.index(" ") + 1 :]
    return f"{before[:half].rstrip()}{_CUT}{after[-half:].lstrip()}"


def _short_word(word: str) -> str:
    half = LONGEST_WORD // 2
    return word if len(word) <= LONGEST_WORD else f"{word[:half]}...{word[-half:]}"
