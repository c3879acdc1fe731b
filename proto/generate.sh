#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Regenerates tunesmith_proto/*_pb2.py and .pyi with the generator of requirements.txt.
# usage: proto/generate.sh [OUTPUT_DIR]   (default: proto/tunesmith_proto)
#
# Files are named from this folder ("katib/v1beta1/api.proto"): Katib's SDK registers a bare
# "api.proto", and one process has one descriptor pool. No file imports another, so the output
# may then be moved to the shorter package path.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/tunesmith_proto}
venv=${XDG_CACHE_HOME:-$HOME/.cache}/tunesmith-proto-venv
if [ ! -x "$venv/bin/python" ] || ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi
generated=$(mktemp -d)
trap 'rm -rf "$generated"' EXIT
"$venv/bin/python" -m grpc_tools.protoc -I "$here" \
  --python_out="$generated" --pyi_out="$generated" \
  katib/v1beta1/api.proto tunesmith/v1/suggestions.proto tunesmith/v1/observations.proto
mkdir -p "$out/katib" "$out/v1"
mv "$generated"/katib/v1beta1/* "$out/katib/"
mv "$generated"/tunesmith/v1/* "$out/v1/"
