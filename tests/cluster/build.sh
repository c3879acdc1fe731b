#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the programs of the test clusters from Go modules (tools/*/go.mod, with checksums) into
# ${XDG_CACHE_HOME:-~/.cache}/tunesmith-tests/cluster/VERSION/bin, unless they are there.
# 5 to 15 minutes on 2 cores with a cold Go cache. A program appears there whole or not at all, so
# this may be killed, and run twice at once.
# Usage: build.sh [PROGRAM...], by default all of them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(sed -nE 's#^(require )?\s*k8s.io/kubernetes v(\S+).*#\2#p' "$here/tools/kubernetes/go.mod")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tunesmith-tests/cluster/$version
kubernetes=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)
command -v kubectl >/dev/null || kubernetes+=(kubectl)
wanted=("$@")
[ $# -gt 0 ] || wanted=("${kubernetes[@]}" coredns)

missing=()
for program in "${wanted[@]}"; do [ -x "$cache/bin/$program" ] || missing+=("$program"); done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v go >/dev/null; then
  echo "build.sh: no Go, which the test clusters are built with: run tests/set-up.sh, or see https://go.dev/dl" >&2
  exit 1
fi

mkdir -p "$cache/bin"
exec 9>"$cache/.building"
flock 9 # a second run waits, and then finds everything there
rm -rf "$cache"/.half-* # of runs that were killed
half=$(mktemp -d "$cache/.half-XXXXXX")
trap 'rm -rf "$half"' EXIT
export CGO_ENABLED=0 GOFLAGS=-mod=readonly

# From 1.21 on, Go fetches by itself the newer one that go.mod asks for. An older one (Debian 12 has
# 1.19) can fetch it as a module, whose files are then not yet executable.
if go version | grep -qE ' go1\.(1?[0-9]|20)[. ]'; then
  newer=golang.org/toolchain@v0.0.1-go1.24.9.$(go env GOOS)-$(go env GOARCH)
  root=$(cd "$half" && GOFLAGS= go mod download -json "$newer" | sed -nE 's/^\s*"Dir": "(.*)",$/\1/p')
  chmod +x "$root"/bin/* "$root"/pkg/tool/*/*
  export PATH=$root/bin:$PATH GOTOOLCHAIN=local
fi

build() { # build TOOLS PACKAGE PROGRAM [LDFLAGS]
  [ -x "$cache/bin/$3" ] && return
  local began=$SECONDS
  go build -C "$here/tools/$1" -trimpath -ldflags "-s -w ${4:-}" -o "$half/$3" "$2"
  mv "$half/$3" "$cache/bin/$3"
  echo "build.sh: $3 in $((SECONDS - began)) s" >&2
}
IFS=. read -r major minor _ <<<"$version"
names=k8s.io/component-base/version
flags="-X $names.gitVersion=v$version -X $names.gitMajor=$major -X $names.gitMinor=$minor"
for program in "${missing[@]}"; do
  case $program in
    coredns) build coredns github.com/coredns/coredns coredns ;;
    etcd) build kubernetes go.etcd.io/etcd/server/v3 etcd ;;
    *) build kubernetes "k8s.io/kubernetes/cmd/$program" "$program" "$flags" ;;
  esac
done
