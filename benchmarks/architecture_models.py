"""Architectures of torchvision, timm and Keras with seeded weights, as their exporters write them.

Weights are random, but no layer is idle: a parameter that an architecture begins with as one
number throughout (scales of normalizations, some of which begin at 0, layer scales, biases) is
drawn, and BatchNormalization has the statistics of a batch of noise. Nothing is downloaded.
"""

import os
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from onnxsemi._arrays import Float32Array

CLASSES = 10
EXPORTERS = ("torchscript", "dynamo", "tf2onnx")
_STATISTICS = 16  # images that the statistics of BatchNormalization are of
_OPSET = {"torchscript": 17, "dynamo": 18, "tf2onnx": 18}


@dataclass(frozen=True)
class Architecture:
    """What is made.

    Attributes:
        library: torchvision, timm or keras.
        size: Height and width of the images: small, where the architecture allows it.
        options: Arguments of its maker.
    """

    library: str
    size: int = 64
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def exporters(self) -> tuple[str, ...]:
        """What writes it."""
        return EXPORTERS[2:] if self.library == "keras" else EXPORTERS[:2]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image."""
        last = self.library == "keras"
        return (self.size, self.size, 3) if last else (3, self.size, self.size)


_NO_AUXILIARY = {"aux_logits": False, "init_weights": True}
ARCHITECTURES = {
    "resnet18": Architecture("torchvision"),
    "resnet50": Architecture("torchvision"),
    "resnet101": Architecture("torchvision"),
    "wide_resnet50_2": Architecture("torchvision"),
    "resnext50_32x4d": Architecture("torchvision"),
    "resnet50d": Architecture("timm"),
    "resnetv2_50": Architecture("timm"),
    "seresnet50": Architecture("timm"),
    "vgg11_bn": Architecture("torchvision", 224),
    "densenet121": Architecture("torchvision"),
    "googlenet": Architecture("torchvision", options=_NO_AUXILIARY),
    "inception_v3": Architecture("torchvision", 75, _NO_AUXILIARY),
    "mobilenet_v2": Architecture("torchvision"),
    "mobilenet_v3_small": Architecture("torchvision"),
    "efficientnet_b0": Architecture("torchvision"),
    "mnasnet1_0": Architecture("torchvision"),
    "regnet_y_400mf": Architecture("torchvision"),
    "shufflenet_v2_x1_0": Architecture("torchvision"),
    "squeezenet1_1": Architecture("torchvision"),
    "ghostnet_100": Architecture("timm"),
    "repvgg_a0": Architecture("timm"),
    "convnext_atto": Architecture("timm"),
    "vit_tiny_patch16_224": Architecture("timm", 64, {"img_size": 64}),
    "swin_t": Architecture("torchvision", 112),
    "levit_128s": Architecture("timm", 128, {"img_size": 128}),
    "mobilevit_xxs": Architecture("timm"),
    "MobileNetV2": Architecture("keras"),
    "EfficientNetB0": Architecture("keras"),
}


def noise(architecture: Architecture, images: int, seed: int) -> Float32Array:
    """Seeded noise, float32[N, *shape]."""
    random = np.random.default_rng(seed)
    return random.normal(size=(images, *architecture.shape)).astype(np.float32)


def export(name: str, exporter: str, path: Path) -> str:
    """Write an architecture's ONNX file, unless it is there.

    Returns:
        What was to be done for it; empty if the exporter took the model with a free batch axis.
    """
    note = path.with_suffix(".txt")
    if not note.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        architecture = ARCHITECTURES[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if architecture.library == "keras":
                said = _export_keras(name, architecture, path)
            else:
                said = _export_torch(name, architecture, exporter, path)
        note.write_text(said, encoding="utf-8")
    return note.read_text(encoding="utf-8")


def opset(path: Path) -> int:
    """Of the default domain."""
    model = onnx.load(path, load_external_data=False)
    return next(int(entry.version) for entry in model.opset_import if not entry.domain)


def _export_torch(name: str, architecture: Architecture, exporter: str, path: Path) -> str:
    import torch  # noqa: PLC0415  only what is exported needs it

    model = _torch_model(name, architecture)
    dynamo = exporter == "dynamo"
    arguments: dict[str, Any] = {
        "opset_version": _OPSET[exporter],
        "input_names": ["image"],
        "output_names": ["scores"],
        "dynamo": dynamo,
    }
    free = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
        if dynamo
        else {"dynamic_axes": {"image": {0: "batch"}, "scores": {0: "batch"}}}
    )
    images = torch.from_numpy(noise(architecture, 2, seed=1))
    try:
        torch.onnx.export(model, (images,), path, **arguments, **free)
    except Exception as error:  # noqa: BLE001  whatever keeps the exporter from it
        torch.onnx.export(model, (images[:1],), path, **arguments)
        return f"batch of 1: {type(error).__name__}"
    return ""


def _torch_model(name: str, architecture: Architecture) -> Any:
    """The model in evaluation mode, its weights drawn."""
    import torch  # noqa: PLC0415

    torch.manual_seed(0)
    torch.set_num_threads(1)
    if architecture.library == "timm":
        import timm  # noqa: PLC0415

        model = timm.create_model(
            name, pretrained=False, num_classes=CLASSES, **architecture.options
        )
    else:
        import torchvision  # noqa: PLC0415

        maker = torchvision.models.get_model
        model = maker(name, weights=None, num_classes=CLASSES, **architecture.options)
    model.eval()
    with torch.no_grad():
        for title, values in model.named_parameters():
            if bool((values == values.flatten()[0]).all()):
                _draw(title, values)
        _take_statistics(model, torch.from_numpy(noise(architecture, _STATISTICS, seed=2)))
    return model


def _draw(title: str, values: Any) -> None:
    """Draw a parameter: a scale about 1, or numbers about 0."""
    if (values.ndim > 1 and min(values.shape) > 1) or title.endswith("bias"):
        values.normal_(0, 0.1)
    else:
        values.uniform_(0.5, 1.5)


def _take_statistics(model: Any, images: Any) -> None:
    """Give every BatchNormalization the statistics of images."""
    import torch  # noqa: PLC0415

    found = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for module in found:
        module.momentum = None  # the mean over all batches: of one
        module.reset_running_stats()
        module.train()
    model(images)
    model.eval()


def _export_keras(name: str, architecture: Architecture, path: Path) -> str:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras  # noqa: PLC0415
    import tensorflow as tf  # noqa: PLC0415

    keras.utils.set_random_seed(0)
    maker = getattr(keras.applications, name)
    model = maker(
        weights=None,
        classes=CLASSES,
        input_shape=architecture.shape,
        classifier_activation=None,
        **architecture.options,
    )
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # the statistics of the last batch
            layer.gamma.assign(random.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))
    model(noise(architecture, _STATISTICS, seed=2), training=True)
    image = tf.TensorSpec((None, *architecture.shape), tf.float32, name="image")
    module = tf.Module()
    module.model = model
    module.scores = tf.function(lambda image: model(image, training=False), [image])
    with TemporaryDirectory(prefix="saved-") as saved:  # as a function constants become inputs
        tf.saved_model.save(module, saved, signatures=module.scores.get_concrete_function())
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", saved]
        options = ["--output", str(path), "--opset", str(_OPSET["tf2onnx"])]
        subprocess.run([*command, *options], check=True, capture_output=True)
    return ""
