"""Facts about a model: each is found once, and kept where the model is.

onnx-ir keeps shape and type on the value that has them; compilers keep the answer of an analysis
with what was analysed. ``@fact`` does that for a function of a classifier: its answer is kept on
the classifier, under the function and what else it was asked about. So no caller has to hand on
what was found before, or to find it anew. A classifier is never changed: no fact grows old.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack, cast

if TYPE_CHECKING:
    from onnxsemi._model.classifier import Classifier

_Fact = TypeVar("_Fact")
_About = TypeVarTuple("_About")


def fact(
    find: Callable[["Classifier", Unpack[_About]], _Fact],
) -> Callable[["Classifier", Unpack[_About]], _Fact]:
    """The function, asked once a classifier and whatever else it is about.

    Args:
        find: Finds something of a classifier that nobody changes; the rest of what it takes can be
            hashed.
    """

    @wraps(find)
    def kept(classifier: "Classifier", *about: *_About) -> _Fact:
        asked = (find, *about)
        if asked not in classifier.facts:
            classifier.facts[asked] = find(classifier, *about)
        return cast(_Fact, classifier.facts[asked])

    return kept
