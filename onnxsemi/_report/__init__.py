"""Results as tables for people and as JSON documents for machines."""

from onnxsemi._report.check import check_table
from onnxsemi._report.compare import compare_table
from onnxsemi._report.conversion import (
    apply_document,
    bench_document,
    check_document,
    compare_document,
    compress_document,
    evaluate_document,
    inspect_document,
    pareto_document,
    verify_document,
)
from onnxsemi._report.pareto import pareto_table
from onnxsemi._report.tables import (
    apply_table,
    bench_table,
    compress_table,
    evaluate_table,
    inspect_table,
)
from onnxsemi._report.verify import verify_table

__all__ = [
    "apply_document",
    "apply_table",
    "bench_document",
    "bench_table",
    "check_document",
    "check_table",
    "compare_document",
    "compare_table",
    "compress_document",
    "compress_table",
    "evaluate_document",
    "evaluate_table",
    "inspect_document",
    "inspect_table",
    "pareto_document",
    "pareto_table",
    "verify_document",
    "verify_table",
]
