"""``python -m onnxsemi``."""

from onnxsemi._cli import app

if __name__ == "__main__":
    app(prog_name="onnxsemi")
