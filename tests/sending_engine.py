"""An engine whose tasks run at once, in this process, on what was sent to them: pickled."""

import pickle
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sent:
    """What stands for a value or a result."""

    value: Any


def found(given):
    """Arguments with the values that stand in them."""
    if isinstance(given, Sent):
        return given.value
    if isinstance(given, list | tuple):
        return type(given)(found(each) for each in given)
    if isinstance(given, dict):
        return {key: found(each) for key, each in given.items()}
    return given


def sent(value):
    return pickle.loads(pickle.dumps(value))


@dataclass
class SendingEngine:
    """So many workers, all of them this process."""

    workers: int = 2
    sees_files: bool = False
    begun: list[str] = field(default_factory=list)
    _shared: list[tuple[Any, Sent]] = field(default_factory=list)
    _placed: dict[Any, Sent] = field(default_factory=dict)

    @property
    def where(self):
        return f"{self.workers} workers"

    def admit(self, reference):
        del reference
        return ()

    def share(self, value):
        for known, held in self._shared:
            if known is value:
                return held
        self._shared.append((value, Sent(sent(value))))
        return self._shared[-1][1]

    @contextmanager
    def shared(self, value):
        yield self.share(value)

    def place(self, key, give):
        if key not in self._placed:
            self._placed[key] = Sent(sent(give()))
        return self._placed[key]

    def begin(self, work, *given):
        self.begun.append(work.__name__)
        return Sent(sent(sent(work)(*(found(each) for each in given))))

    def begin_all(self, work, every):
        return [self.begin(work, *given) for given in every]

    def results(self, tasks, tell):
        del tell
        return (task.value for task in tasks)
