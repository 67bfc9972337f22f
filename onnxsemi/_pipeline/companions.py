"""What a target takes beside the model: bitwidths and scales of its layers, in a file of their own.

*bits.json*, for converters that quantize by themselves, layer by layer:

    {"model": "small.onnx", "layers": [{"name": "conv1", "operator": "Conv", "bits": 4,
      "symmetric": true, "axis": 0, "scale": [...], "zero_point": [...]}, ...]}

*encodings*, AIMET's, version 2.0.0, for Qualcomm's converters: the same for each weight by the name
of the tensor that the node takes; symmetric, so without zero points.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from onnxsemi._atomic_file import check_writable
from onnxsemi._emit.deployment import Companion
from onnxsemi._errors import PlanError
from onnxsemi._model.classifier import Classifier
from onnxsemi._model.targets import Site
from onnxsemi._output_size import write_text
from onnxsemi._plan.bitwidth import FLOAT_BITS
from onnxsemi._quantizer.affine import QuantizedChannels, Scheme
from onnxsemi._quantizer.rounded_plan import RoundedPlan
from onnxsemi._settings.write import WriteSettings


def companion_path(settings: WriteSettings, output: Path) -> Path | None:
    """Where it is written: ``small.onnx`` -> ``small.bits.json``; None if there is none."""
    taken = settings.deployment
    if taken is None or taken.companion is None:
        return None
    return output.with_suffix(f".{taken.companion}")


def check_companion(settings: WriteSettings, output: Path) -> None:
    """Refuse a place that it cannot have, before anything long begins.

    Raises:
        OutputError: With the reason.
    """
    path = companion_path(settings, output)
    if path is not None:
        check_writable(path)


def write_companion(
    settings: WriteSettings,
    classifier: Classifier,
    codes: RoundedPlan,
    scratches: Mapping[Path, Path],
    output: Path,
) -> None:
    """Hold a verified file against its target, and write what goes beside it.

    Args:
        settings: How the file is written.
        classifier: The float model.
        codes: Codes of every target channel.
        scratches: Where each file is for now, by where it will be.
        output: Where the model will be.

    Raises:
        PlanError: If the target does not take the plan or the file.
    """
    taken, target, model = settings.deployment, settings.target, scratches[output]
    if taken is None:
        return
    if target is not None:
        taken.check(codes.plan, codes.scheme, target)
        taken.check_file(onnx.load_model(model), target)
    path = companion_path(settings, output)
    if path is not None:
        content = _bits if taken.companion is Companion.BITS else _encodings
        document = content(classifier, codes, onnx.load_model(model), output.name)
        text = msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
        write_text(scratches[path], text, path)


def _layers(classifier: Classifier, codes: RoundedPlan) -> Iterator[tuple[Site, QuantizedChannels]]:
    """Quantized layers, each of one bitwidth."""
    for site in classifier.sites:
        layer = codes.layers[site.layer.name]
        bits = set(layer.bits)
        if len(bits) > 1:
            raise PlanError(f"layer {site.layer.name!r} has several bitwidths")
        if bits == {FLOAT_BITS}:
            continue
        channels = layer.quantized[bits.pop()]
        if channels.doubled:
            raise PlanError(
                f"layer {site.layer.name!r} has zero points between two levels, which the target "
                "does not take: compress with this `target`"
            )
        yield site, channels


def _bits(
    classifier: Classifier, codes: RoundedPlan, model: onnx.ModelProto, name: str
) -> dict[str, Any]:
    operators = {node.name: node.op_type for node in model.graph.node}
    layers = [
        {
            "name": site.layer.name,
            "operator": operators[site.nodes[0]],
            "bits": channels.bits,
            "symmetric": codes.scheme is Scheme.SYMMETRIC,
            "axis": site.layout.stored_axis,
            "scale": channels.scale.tolist(),
            "zero_point": (channels.zero_point.astype(np.int16) - channels.centre).tolist(),
        }
        for site, channels in _layers(classifier, codes)
    ]
    return {"model": name, "layers": layers}


def _encodings(
    classifier: Classifier, codes: RoundedPlan, model: onnx.ModelProto, name: str
) -> dict[str, Any]:
    del name
    weights = {node.name: node.input[1] for node in model.graph.node if len(node.input) > 1}
    encodings = [
        {
            "name": weights[node],
            "output_dtype": f"int{channels.bits}",
            "y_scale": channels.scale.tolist(),
            "axis": site.layout.stored_axis,
        }
        for site, channels in _layers(classifier, codes)
        for node in site.nodes
    ]
    return {"version": "2.0.0", "encodings": encodings}
