#!/usr/bin/env bash
# Compile main.cpp with nothing but packages: headers of Debian's libonnxruntime-dev, the library of pip's
# onnxruntime, which may be newer than the headers.
#
#     build_main.sh FOLDER [PYTHON]
#
# makes FOLDER/classify. PYTHON has onnxruntime (default: python3). Headers are looked for at
# $ONNXRUNTIME_INCLUDE, then where Debian puts them (from Debian 13 on); fetch_headers.sh brings them into a
# folder elsewhere.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$1 python=${2:-python3}
include=${ONNXRUNTIME_INCLUDE:-/usr/include/onnxruntime}
[ -e "$include/onnxruntime_cxx_api.h" ] || { echo "$include: no headers of ONNX Runtime" >&2; exit 1; }
library=$("$python" -c 'import glob, os, onnxruntime as o
print(*glob.glob(os.path.dirname(o.__file__) + "/capi/libonnxruntime.so.1*"))')
[ -n "$library" ] || { echo "the onnxruntime of $python has no libonnxruntime.so" >&2; exit 1; }
mkdir -p "$folder"
ln -sf "$library" "$folder/libonnxruntime.so.1" # the name that it is loaded by
"${CXX:-c++}" -std=c++17 -Wall -Wextra -Werror -isystem "$include" "$here/main.cpp" \
  "$folder/libonnxruntime.so.1" -Wl,-rpath,"$(cd "$folder" && pwd)" -o "$folder/classify"
