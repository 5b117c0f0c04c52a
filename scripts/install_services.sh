#!/bin/sh
# Installs what the tests start as real services: ActiveMQ, PostgreSQL, Redis, Chromium and curl (Debian), kinesis-local (npm).
# Does nothing where they are there; says what is missing where it cannot install them, and the tests skip those.
set -u

missing=""
command -v activemq >/dev/null 2>&1 || missing="$missing activemq"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v curl >/dev/null 2>&1 || missing="$missing curl"

if [ -n "$missing" ]; then
    as_root=""
    if [ "$(id -u)" -ne 0 ]; then
        if sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi
    fi
    if [ "$as_root" = "no" ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "Not installed, and not installable here:$missing. Their tests will be skipped." >&2
        echo "Install them as root: apt-get install --no-install-recommends$missing" >&2
    else
        echo "Installing$missing ..."
        export DEBIAN_FRONTEND=noninteractive
        # Packages start their services when installed; the tests start their own, so that is refused.
        policy=/usr/sbin/policy-rc.d
        [ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null; $as_root chmod +x "$policy"; made=1; }
        $as_root apt-get update -qq
        # shellcheck disable=SC2086
        $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
            echo "apt-get could not install$missing; their tests will be skipped." >&2
        [ "${made:-}" ] && $as_root rm -f "$policy"
    fi
fi

if [ ! -d .services/node_modules/kinesis-local ]; then
    if command -v npm >/dev/null 2>&1; then
        echo "Installing kinesis-local ..."
        mkdir -p .services
        npm install --silent --no-fund --no-audit --no-package-lock --prefix .services kinesis-local@0.6.2 >/dev/null ||
            echo "npm could not install kinesis-local; its tests will be skipped." >&2
    else
        echo "npm is not there, so neither is kinesis-local; its tests will be skipped." >&2
    fi
fi
exit 0
