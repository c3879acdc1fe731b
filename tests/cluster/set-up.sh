#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what tests need beside Python packages: Go, for the GJSON oracle and the test clusters;
# podman with a runtime, and a static busybox as its image, for trials in containers; what a
# Kubernetes node is made of; PostgreSQL and MariaDB. Then builds the programs of the test clusters.
# Where it cannot, the tests say so when they are skipped; with CI=true they fail instead.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
need() { # need COMMAND PACKAGE
  command -v "$1" >/dev/null || missing+=("$2")
}
need go golang-go
need podman podman
need runc runc
need busybox busybox-static
# A node of the test clusters (tests/cluster).
need containerd containerd
need conntrack conntrack
need iptables iptables
need nft nftables
need ip iproute2
need sysctl procps
need mmdebstrap mmdebstrap
[ -x /usr/lib/cni/ptp ] || missing+=(containernetworking-plugins)
# Databases of an observation service.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
need mariadbd mariadb-server

if [ ${#missing[@]} -gt 0 ]; then
  if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    # Tests start their own in temporary folders: no package may start a service here.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      trap 'rm -f /usr/sbin/policy-rc.d' EXIT
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod +x /usr/sbin/policy-rc.d
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
  else
    echo "set-up: not installed: ${missing[*]} (run as root on Debian, or install them yourself)" >&2
  fi
fi
"$(dirname "${BASH_SOURCE[0]}")/build.sh" \
  || echo "set-up: the programs of the test clusters are not built; their tests will say so" >&2
