#!/usr/bin/env bash
# Compress every model of a folder that has no compressed file yet, or an older one.
#
#     compress_new_models.sh MODELS IMAGES SMALL [options of onnxsemi compress]
#
# --strict ends with 3 unless the images that no search saw show that accuracy holds; the pipeline
# stops there, and the model is not handed on. --resume goes on with a run that was cut short.
set -euo pipefail
models=$1 images=$2 small=$3
shift 3
mkdir -p "$small"
for model in "$models"/*.onnx; do
  out="$small/$(basename "$model")"
  if [ "$out" -nt "$model" ]; then
    echo "$(basename "$model"): nothing new"
    continue
  fi
  onnxsemi compress "$model" --data "$images" --target web --strict --resume -o "$out" "$@" || {
    code=$?
    rm -f "$out"
    exit "$code"
  }
done
