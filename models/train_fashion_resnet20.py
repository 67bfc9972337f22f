"""Train a ResNet-20 on Fashion-MNIST and write the ONNX model and image sets of this folder.

The script trains a CIFAR-style ResNet-20 for a fixed number of epochs, keeps the weights of the
last epoch (the test images choose nothing), folds every batch normalisation into its convolution,
and writes three files:

* ``fashion_resnet20.onnx``: the classifier, ``input`` float32 [N, 1, 28, 28] to ``logits``
  float32 [N, 10];
* ``fashion_search.npz``: 2,000 test images, 200 of each class;
* ``fashion_report.npz``: 4,000 other test images, 400 of each class.

It then measures the accuracy of the written model with ONNX Runtime and prints the size and the
SHA-256 checksum of each file.

How to run it::

    pip install torch==2.13.0 numpy onnx onnxruntime
    apt-get install dataset-fashion-mnist        # or --data DIR with the four IDX files
    python models/train_fashion_resnet20.py --out models

Training runs on the CPU. ``--precision bf16`` (the default) is faster on processors with bfloat16
instructions; ``--precision fp32`` is the choice for any other. ``--epochs 0`` writes the files
from an untrained network, which checks an installation within seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from fashion_mnist import (
    BATCH_SIZE,
    CLASSES,
    CROP_PADDING,
    DEBIAN_DATA,
    IMAGE_SIZE,
    DataError,
    FloatArray,
    ImageSet,
    IntArray,
    Normalisation,
    augmented_batches,
    load_split,
    measure_normalisation,
    stratified_subsets,
    write_npz,
)
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

PEAK_LEARNING_RATE = 0.2
WARM_UP = 0.2
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

OPSET = 17
IR_VERSION = 8
LOGIT_TOLERANCE = 1e-4
EVALUATION_BATCH = 500

SEARCH_PER_CLASS = 200
REPORT_PER_CLASS = 400


def conv_bn(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Sequential:
    """Makes a convolution without bias (child ``conv``) and its batch norm (child ``bn``)."""
    conv = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return nn.Sequential(OrderedDict([("conv", conv), ("bn", nn.BatchNorm2d(channels_out))]))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where shapes differ."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """Makes the block.

        Args:
            channels_in: Channels of the input.
            channels_out: Channels of the output.
            stride: Stride of the first convolution and of the projection.
        """
        super().__init__()
        self.conv1: nn.Module = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(channels_out)
        self.conv2: nn.Module = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.bn2: nn.Module = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = conv_bn(channels_in, channels_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the block to ``x``."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + self.shortcut(x))


class ResNet20(nn.Module):
    """The 20-layer residual network for small images, with one input channel."""

    def __init__(self) -> None:
        """Makes the network with He-initialised convolutions."""
        super().__init__()
        self.stem: nn.Module = conv_bn(1, 16, 3, 1)
        self.stage1 = self._stage(16, 16, 1)
        self.stage2 = self._stage(16, 32, 2)
        self.stage3 = self._stage(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, CLASSES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
        """Makes three blocks, the first of which changes the shape."""
        return nn.Sequential(
            BasicBlock(channels_in, channels_out, stride),
            BasicBlock(channels_out, channels_out, 1),
            BasicBlock(channels_out, channels_out, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits [N, 10] of images [N, 1, 28, 28]."""
        x = functional.relu(self.stem(x))
        x = self.stage3(self.stage2(self.stage1(x)))
        logits: Tensor = self.classifier(torch.flatten(self.pool(x), 1))
        return logits


def fold_batch_norms(model: nn.Module) -> None:
    """Folds every batch norm into its convolution, in place; module names stay as they are.

    Args:
        model: A network in eval mode whose batch norms ``bnX`` directly follow ``convX``.

    Raises:
        TypeError: If a batch norm follows no convolution.
    """
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                conv_name = name.replace("bn", "conv")
                conv = module.get_submodule(conv_name)
                if not isinstance(conv, nn.Conv2d):
                    raise TypeError(f"{conv_name} is not a convolution")
                setattr(module, conv_name, fuse_conv_bn_eval(conv, child))
                setattr(module, name, nn.Identity())


def make_optimizer(model: nn.Module) -> torch.optim.SGD:
    """Makes SGD with Nesterov momentum; biases and batch norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=PEAK_LEARNING_RATE, momentum=MOMENTUM, nesterov=True)


def train(
    training: ImageSet, normalisation: Normalisation, epochs: int, seed: int, *, bf16: bool
) -> ResNet20:
    """Trains a network for a fixed number of epochs.

    Args:
        training: The training images; no other image is looked at.
        normalisation: How pixels are normalised.
        epochs: How often each training image is seen.
        seed: Seed of the initial weights, the order of the images and the augmentation.
        bf16: Whether to compute the forward pass with bfloat16 autocast.

    Returns:
        The network with its final weights, in eval mode.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = ResNet20()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    padded = functional.pad(torch.from_numpy(training.images.copy()), (CROP_PADDING,) * 4)
    labels = torch.from_numpy(training.labels)
    optimizer = make_optimizer(model)
    steps = max(1, epochs * (len(padded) // BATCH_SIZE))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=PEAK_LEARNING_RATE,
        total_steps=steps + 1,
        pct_start=WARM_UP,
        cycle_momentum=False,
    )
    started = time.monotonic()
    model.train()
    for epoch in range(epochs):
        losses: list[float] = []
        for pixels, target in augmented_batches(padded, labels, generator):
            batch = normalisation.apply(pixels).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(batch)
            loss = functional.cross_entropy(logits.float(), target)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        seconds = time.monotonic() - started
        loss_mean = float(np.mean(losses))
        print(f"epoch {epoch + 1}/{epochs}: loss {loss_mean:.4f}, {seconds:.0f} s", flush=True)
    return model.eval()


def export_onnx(model: ResNet20, path: Path) -> None:
    """Writes a network in eval mode as a self-contained, checked ONNX file.

    Args:
        model: The network; its batch norms are folded in place.
        path: The file to write.
    """
    fold_batch_norms(model)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.onnx.export(
        model,
        (torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE),),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        opset_version=OPSET,
        dynamo=False,
    )
    proto = onnx.load(str(path))
    proto.ir_version = IR_VERSION
    proto.graph.name = "fashion_resnet20"
    proto.doc_string = proto.graph.doc_string = ""
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def torch_logits(model: nn.Module, inputs: FloatArray) -> FloatArray:
    """Computes logits with PyTorch in float32."""
    with torch.inference_mode():
        batches = torch.split(torch.from_numpy(inputs), EVALUATION_BATCH)
        parts = [model(batch).numpy() for batch in batches]
    return np.concatenate(parts)


def onnx_logits(path: Path, inputs: FloatArray) -> FloatArray:
    """Computes logits with ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    batches = np.split(inputs, range(EVALUATION_BATCH, len(inputs), EVALUATION_BATCH))
    return np.concatenate([session.run(["logits"], {"input": batch})[0] for batch in batches])


def count_correct(logits: FloatArray, labels: IntArray) -> int:
    """Counts the images whose greatest logit is that of their label."""
    return int(np.count_nonzero(logits.argmax(axis=1) == labels))


def print_accuracy(title: str, logits: FloatArray, labels: IntArray) -> None:
    """Prints how many images, and what share of them, are classified correctly."""
    correct = count_correct(logits, labels)
    print(f"{title}: {correct} of {len(labels)} correct, {100.0 * correct / len(labels):.2f} %")


def print_file(path: Path) -> None:
    """Prints a file's name, size and SHA-256 checksum."""
    content = path.read_bytes()
    print(f"{path.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


def write_and_report(
    model: ResNet20, test: ImageSet, normalisation: Normalisation, out: Path
) -> None:
    """Writes the three files and prints their accuracies and checksums.

    Args:
        model: The trained network in eval mode; its batch norms are folded in place.
        test: The test images.
        normalisation: How pixels are normalised.
        out: The folder to write to.

    Raises:
        RuntimeError: If ONNX Runtime's logits differ from PyTorch's.
    """
    out.mkdir(parents=True, exist_ok=True)
    onnx_path = out / "fashion_resnet20.onnx"
    inputs: FloatArray = normalisation.apply(torch.from_numpy(test.images[:, None].copy())).numpy()
    expected = torch_logits(model, inputs)
    export_onnx(model, onnx_path)
    logits = onnx_logits(onnx_path, inputs)
    difference = float(np.abs(logits - expected).max())
    print(f"greatest difference of a logit between PyTorch and ONNX Runtime: {difference:.2e}")
    if difference > LOGIT_TOLERANCE:
        raise RuntimeError(f"the exported model's logits are off by {difference:.2e}")

    print_accuracy(f"all {len(test.labels)} test images, PyTorch", expected, test.labels)
    print_accuracy(f"all {len(test.labels)} test images, ONNX Runtime", logits, test.labels)
    sizes = (SEARCH_PER_CLASS, REPORT_PER_CLASS)
    names = ("fashion_search.npz", "fashion_report.npz")
    for name, indices in zip(names, stratified_subsets(test.labels, sizes), strict=True):
        write_npz(test.take(indices), normalisation, out / name)
        print_accuracy(f"{name}, ONNX Runtime", logits[indices], test.labels[indices])
    for name in (onnx_path.name, *names):
        print_file(out / name)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line.

    Args:
        arguments: The arguments, or None for those of the process.

    Returns:
        The parsed arguments.
    """
    parser = argparse.ArgumentParser(
        description="Train a ResNet-20 on Fashion-MNIST and export it to ONNX."
    )
    parser.add_argument(
        "--data", type=Path, default=DEBIAN_DATA, help="folder of the IDX files (%(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), help="folder to write to (the current folder)"
    )
    parser.add_argument("--epochs", type=int, default=30, help="training epochs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="training seed (%(default)s)")
    parser.add_argument(
        "--precision", choices=("bf16", "fp32"), default="bf16", help="of training (%(default)s)"
    )
    parsed = parser.parse_args(arguments)
    if parsed.epochs < 0:
        parser.error("--epochs must not be negative")
    return parsed


def main() -> int:
    """Runs the script.

    Returns:
        The exit status: 0, or 2 if the data set could not be read.
    """
    options = parse_arguments()
    try:
        training = load_split(options.data, "train")
        test = load_split(options.data, "t10k")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    normalisation = measure_normalisation(training.images)
    print(f"normalisation: mean {normalisation.mean}, std {normalisation.std}", flush=True)
    model = train(
        training, normalisation, options.epochs, options.seed, bf16=options.precision == "bf16"
    )
    write_and_report(model, test, normalisation, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
