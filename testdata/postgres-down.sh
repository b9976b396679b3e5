#!/usr/bin/env bash
# Stop the PostgreSQL that postgres-up.sh started with its data in DIR, by its own process or container id, and delete DIR.
set -euo pipefail
dir=$(cd "${1:?usage: postgres-down.sh DIR}" && pwd)
if [[ -s $dir/container ]]; then
  docker rm --force --volumes "$(cat "$dir/container")"
elif [[ -s $dir/data/postmaster.pid ]]; then
  pid=$(head -1 "$dir/data/postmaster.pid")
  if [[ $(readlink "/proc/$pid/cwd") = "$dir/data" ]]; then # not some other process by now
    kill -INT "$pid" # fast shutdown
    for _ in {1..100}; do
      [[ -d /proc/$pid ]] || break
      sleep 0.1
    done
    [[ ! -d /proc/$pid ]] || kill -QUIT "$pid"
  fi
fi
rm -rf "$dir"
