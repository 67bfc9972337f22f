"""Settings by their flags: the library names fields, the command line what a user types."""

import re
from functools import cache

from onnxsemi._cli import options as opt
from onnxsemi._option import Declared, options_of
from onnxsemi._settings import ApplySettings, BenchSettings, EvaluateSettings, Settings

_QUOTED = re.compile(r"`([a-z_]+)`")
_SETTINGS = (BenchSettings, EvaluateSettings, ApplySettings, Settings)  # the last one's flag counts
_ARGUMENTS = {
    "data": opt.TestImages,
    "test_data": opt.TestImages,
    "calibration_data": opt.ActivationImages,
    "workers": opt.Workers,
}


def with_flags(message: str) -> str:
    """A message of the library with flags for the names of settings.

    >>> with_flags("`max_drop`: 101 is outside 0 to 100 points; leave `pins` away")
    '--max-drop: 101 is outside 0 to 100 points; leave --pin away'
    """
    return _QUOTED.sub(lambda found: _flags().get(found[1], found[0]), message)


@cache
def _flags() -> dict[str, str]:
    """Names of fields, and of arguments -> their flags."""
    found = [Declared(name, hint, None) for name, hint in _ARGUMENTS.items()]
    found += [each for group in _SETTINGS for each, _ in options_of(group)]
    return {each.name: each.flag for each in found} | {each.key: each.flag for each in found}
