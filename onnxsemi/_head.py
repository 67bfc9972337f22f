"""What the end of a classifier says of an image, and what its answers are called."""

from enum import StrEnum


class Head(StrEnum):
    """What the scores of an image are."""

    SOFTMAX = "softmax"
    """Of K classes that exclude each other: logits, or their Softmax."""
    ONE_SIGMOID = "one-sigmoid"
    """One Sigmoid of a logit z: two classes that exclude each other, with the logits (0, z), as
    softmax(0, z) = (1 - p, p) for p = sigmoid(z)."""
    SIGMOIDS = "sigmoids"
    """A Sigmoid for each of L labels, which an image may have or not."""

    @property
    def per_label(self) -> bool:
        """Whether an answer is one yes or no for each label."""
        return self is Head.SIGMOIDS

    @property
    def measured(self) -> str:
        """What the share of right answers is called."""
        return "all labels right" if self.per_label else "top-1"

    @property
    def accuracy(self) -> str:
        """The same in full."""
        return self.measured if self.per_label else f"{self.measured} accuracy"

    @property
    def scored(self) -> str:
        """What there is a score for."""
        return "labels" if self.per_label else "classes"

    @property
    def agreed(self) -> str:
        """What is the same on images of which it has the float model's answer."""
        return f"{self.same} the float model" if self.per_label else "the float model's answer"

    @property
    def same(self) -> str:
        """What images are of which two models give the same answer."""
        return "every label as" if self.per_label else "same answer as"
