#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what tests need beside Python packages: Go, for the GJSON oracle; podman with a runtime,
# and a static busybox as its image, for trials in containers; PostgreSQL and MariaDB, which tests
# start by themselves. Where it cannot, the tests say so when
# they are skipped; with CI=true they fail instead.
set -euo pipefail
missing=()
command -v go >/dev/null || missing+=(golang-go)
command -v podman >/dev/null || missing+=(podman)
command -v runc >/dev/null || [ -x /usr/sbin/runc ] || missing+=(runc)
command -v busybox >/dev/null || missing+=(busybox-static)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
[ -x /usr/sbin/mariadbd ] || command -v mariadbd >/dev/null || missing+=(mariadb-server-core)
[ ${#missing[@]} -eq 0 ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
  if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    # No server of its own: it would listen on this machine for nothing.
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
else
  echo "set-up: not installed: ${missing[*]} (run as root on Debian, or install them yourself)" >&2
fi
