"""The stages in order: the only room that knows it.

read -> load data -> Δloss -> search -> emit -> verify -> report
"""

from onnxsemi.pipeline.apply import apply
from onnxsemi.pipeline.bench import bench
from onnxsemi.pipeline.compress import compress
from onnxsemi.pipeline.evaluate import evaluate
from onnxsemi.pipeline.inspect import inspect

__all__ = ["apply", "bench", "compress", "evaluate", "inspect"]
