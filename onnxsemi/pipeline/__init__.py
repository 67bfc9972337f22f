"""The stages in order: the only room that knows it.

read -> load data -> Δloss -> search -> emit -> verify -> report
"""

from onnxsemi.pipeline.apply import apply
from onnxsemi.pipeline.bench import bench
from onnxsemi.pipeline.check import check
from onnxsemi.pipeline.compare import compare
from onnxsemi.pipeline.compress import compress
from onnxsemi.pipeline.evaluate import evaluate
from onnxsemi.pipeline.inspect import inspect
from onnxsemi.pipeline.pareto import pareto

__all__ = ["apply", "bench", "check", "compare", "compress", "evaluate", "inspect", "pareto"]
