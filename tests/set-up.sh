#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what tests need beside Python packages: Go, for the GJSON oracle; podman with a runtime,
# and a static busybox as its image, for trials in containers; PostgreSQL and MariaDB, of which tests
# start servers of their own. Where it cannot, the tests say so when they are skipped; with CI=true
# they fail instead.
set -euo pipefail
missing=()
command -v go >/dev/null || missing+=(golang-go)
command -v podman >/dev/null || missing+=(podman)
command -v runc >/dev/null || [ -x /usr/sbin/runc ] || missing+=(runc)
command -v busybox >/dev/null || missing+=(busybox-static)
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null \
  || missing+=(postgresql)
[ -x /usr/sbin/mariadbd ] || command -v mariadbd >/dev/null || missing+=(mariadb-server-core)
command -v mariadb-install-db >/dev/null || missing+=(mariadb-server)  # its package by release
[ ${#missing[@]} -eq 0 ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  apt-get update -qq
  # Packages of databases would start a service each, and PostgreSQL's would make data for it.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
  echo "set-up: not installed: ${missing[*]} (run as root on Debian, or install them yourself)" >&2
fi
