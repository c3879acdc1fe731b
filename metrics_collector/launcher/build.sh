#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh DIR [ARCH...]: DIR/tunesmith-launcher-linux-ARCH, static, the same bytes from the same
# sources and Go version wherever they lie. Without ARCH: amd64 and arm64. Needs Go 1.19 or newer.
set -eu
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")"
for arch in ${*:-amd64 arm64}; do
  CGO_ENABLED=0 GOOS=linux GOARCH="$arch" GOAMD64=v1 GOARM64=v8.0 GOFLAGS= GOTOOLCHAIN=local \
    GOPROXY=off GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' \
    -o "$out/tunesmith-launcher-linux-$arch" .
done
