#!/usr/bin/env bash
# The headers of ONNX Runtime's C++ interface from Debian's libonnxruntime-dev (MIT), into a folder; nothing is
# installed, and the system's own lists stay as they are. On Debian 13: apt install libonnxruntime-dev.
#
#     fetch_headers.sh FOLDER [RELEASE]
#
# makes FOLDER/usr/include/onnxruntime. RELEASE is a Debian release that has the package (default: trixie);
# the mirror is the one that apt uses here.
set -euo pipefail
mkdir -p "$1"
cd "$1"
release=${2:-trixie}
mirror=$(apt-get indextargets --format '$(SITE)' 'Label: Debian' | awk 'NR == 1')
mkdir -p lists/partial cache/archives/partial parts
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >sources.list
apt=(apt-get -qq -o "Dir::Etc::SourceList=$PWD/sources.list" -o "Dir::Etc::SourceParts=$PWD/parts"
  -o "Dir::State::Lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=root -o Acquire::Retries=1)
"${apt[@]}" update
"${apt[@]}" download libonnxruntime-dev
dpkg-deb -x libonnxruntime-dev_*.deb .
rm -rf lists cache parts sources.list libonnxruntime-dev_*.deb
