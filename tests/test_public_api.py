"""The public surface: a name that comes or goes is a decision, not an accident."""

import inspect
import subprocess
import sys

import onnxsemi

PUBLIC = """
    AccuracyError ApplyResult ApplySettings BenchResult BenchSettings BitPlan BudgetError
    Calibration CheckResult Comparison CompareResult CompressResult DataError DataOptions Effort
    EvaluateResult EvaluateSettings Event Guarantee ImageSet Inputs InspectResult KeptFrontier
    KeptPoint LossError Means Method ModelError Normalization NothingHoldsError OnnxSemiError Order
    Outcome OutputError Paired Pin PlanError Preset Profile Progress Ranges ReadOptions
    RoundingMethod RoundingSettings RunError RunOptions Scheme SearchMethod SearchSettings Settings
    SettingsError Split Target TargetPolicy Verdict VerificationError __version__ apply bench
    check compare compress evaluate inspect ladder load_images load_session pareto verify
    VerifyResult
"""


def test_exported_names():
    assert sorted(onnxsemi.__all__) == sorted(PUBLIC.split())
    assert all(hasattr(onnxsemi, name) for name in onnxsemi.__all__)


def test_every_exported_class_and_function_is_documented():
    for name in onnxsemi.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(onnxsemi, name)), name


def test_every_error_is_one_family():
    errors = [getattr(onnxsemi, name) for name in onnxsemi.__all__ if name.endswith("Error")]
    assert all(issubclass(error, onnxsemi.OnnxSemiError) for error in errors)


def test_importing_configures_no_logging_and_prints_nothing():
    code = "import logging; import onnxsemi; assert not logging.getLogger().handlers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_python_dash_m():
    done = subprocess.run(
        [sys.executable, "-m", "onnxsemi", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"onnxsemi {onnxsemi.__version__}\n"
