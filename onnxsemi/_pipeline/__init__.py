"""The stages in order: the only room that knows it.

read -> load data -> Δloss -> search -> emit -> verify -> report
"""

from onnxsemi._pipeline.apply import apply
from onnxsemi._pipeline.bench import bench
from onnxsemi._pipeline.check import check
from onnxsemi._pipeline.compress import compress
from onnxsemi._pipeline.differences import compare
from onnxsemi._pipeline.evaluate import evaluate
from onnxsemi._pipeline.inspect import inspect
from onnxsemi._pipeline.pareto import pareto
from onnxsemi._pipeline.verify import verify

__all__ = [
    "apply",
    "bench",
    "check",
    "compare",
    "compress",
    "evaluate",
    "inspect",
    "pareto",
    "verify",
]
