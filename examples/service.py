"""A service that classifies images with a compressed file.

    pip install fastapi uvicorn onnxruntime numpy
    MODEL=small.onnx uvicorn service:app --app-dir examples

It needs nothing of onnxsemi. The file is one of profile fast, which runs at full speed as it is:
``onnxsemi compress model.onnx --data images.npz --target web -o small.onnx``. Pixels come as JSON,
already in the model's layout and normalization.
"""

import os
from typing import Annotated, Any

import numpy as np
import onnxruntime
from fastapi import Body, FastAPI, HTTPException

app = FastAPI(title="classifier")
session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
image = session.get_inputs()[0]


@app.get("/health")
def health() -> dict[str, Any]:
    """What is served."""
    return {"model": os.path.basename(os.environ["MODEL"]), "input": image.shape}


@app.post("/classify")
def classify(pixels: Annotated[list[Any], Body(embed=True)]) -> dict[str, Any]:
    """The class of one image, and the probability that the model gives it.

    Args:
        pixels: One image, nested lists in the shape of the model's input without the batch.
    """
    try:
        batch = np.asarray(pixels, np.float32)[None]
        scores = session.run(None, {image.name: batch})[0][0].astype(np.float64)
    except Exception as error:  # whatever a client sent
        wanted = image.shape[1:]
        raise HTTPException(422, f"pixels must be numbers of shape {wanted}") from error
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    best = int(shares.argmax())
    return {"class": best, "probability": float(shares[best])}
