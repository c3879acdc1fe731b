#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what tests need beside Python packages: Go, for the GJSON oracle. Where it cannot, the
# tests say so when they are skipped; with CI=true they fail instead.
set -euo pipefail
missing=()
command -v go >/dev/null || missing+=(golang-go)
[ ${#missing[@]} -eq 0 ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
else
  echo "set-up: not installed: ${missing[*]} (run as root on Debian, or install them yourself)" >&2
fi
