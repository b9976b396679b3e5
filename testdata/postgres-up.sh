#!/usr/bin/env bash
# Start a PostgreSQL with pgvector for the tests, on a free port of 127.0.0.1, and print its URL:
#
#   testdata/postgres-up.sh DIR      # DIR: a new folder for its data, or one that this script filled before
#   testdata/postgres-down.sh DIR    # stop it and delete DIR
#
# It takes Docker where there is an engine; else a server that is installed with pgvector; else, on Debian for amd64, it
# unpacks Debian 13's packages into a cache folder and runs them with the loader and libraries they came with. The cache
# also gets pgbouncer and pgbench. Nothing is installed. CACHE names the folder, OPTIONS are more server options.
# PRIMARY is the folder of a server that this script has started, without Docker: the new one becomes its standby.
set -euo pipefail
umask 022
mkdir -p "${1:?usage: postgres-up.sh DIR}"
dir=$(cd "$1" && pwd)
cache=${CACHE:-${XDG_CACHE_HOME:-/var/tmp}/vitrine-postgres}
fail() { echo "postgres-up: $*" >&2; exit 1; }

# A crash of the server is what the tests inflict, never one of the machine: so no fsync.
options="-c fsync=off -c full_page_writes=off -c jit=off -c max_connections=200 -c max_wal_size=4GB ${OPTIONS:-}"

if docker info > "$dir/docker.log" 2>&1; then
  [[ -z ${PRIMARY:-} ]] || fail "no standby in a container"
  if [[ -s $dir/container ]]; then
    docker start "$(cat "$dir/container")" > "$dir/docker.log"
  else
    # shellcheck disable=SC2086 # options are several words
    docker run --detach --shm-size=1g --env POSTGRES_HOST_AUTH_METHOD=trust --publish 127.0.0.1::5432 \
      pgvector/pgvector:pg17 $options > "$dir/container"
  fi
  container=$(cat "$dir/container")
  for _ in {1..120}; do # over TCP: the image's first, temporary server listens on its socket alone
    if docker exec "$container" psql -qAt -h 127.0.0.1 -U postgres -c 'SELECT 1' > "$dir/docker.log" 2>&1; then
      echo "postgres://postgres@$(docker port "$container" 5432/tcp | head -1)/postgres?sslmode=disable"
      exit
    fi
    sleep 0.5
  done
  fail "the container does not answer: docker logs $container"
fi

# unpack fills $cache/root with what the server loads but LLVM, which only jit needs.
unpack() {
  local work=$cache/work mirror file
  [[ $(dpkg --print-architecture) = amd64 ]] || fail "no Docker, no server with pgvector, and not Debian for amd64"
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian //p' | head -1)
  [[ -n $mirror ]] || fail "apt knows no Debian mirror: run apt-get update once"
  rm -rf "$work" "$cache/root"
  mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/root"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" > "$work/sources.list"
  : > "$work/status"
  local apt=(apt-get -qq -o "Dir::State=$work" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work"
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root
    -o Acquire::Languages=none)
  "${apt[@]}" update >&2
  (cd "$work" && "${apt[@]}" download postgresql-17 postgresql-client-17 postgresql-17-pgvector pgbouncer \
    libaudit1 libc6 libcap-ng0 libcap2 libcares2 libcom-err2 libevent-2.1-7t64 libgcc-s1 libgssapi-krb5-2 libicu76 \
    libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 libldap2 liblz4-1 liblzma5 libpam0g libpcre2-8-0 libpq5 \
    libreadline8t64 libsasl2-2 libselinux1 libssl3t64 libstdc++6 libsystemd0 libtinfo6 libuuid1 libxml2 libxslt1.1 \
    libxxhash0 libzstd1 zlib1g) >&2
  for file in "$work"/*.deb; do dpkg-deb -x "$file" "$work/root"; done
  mv "$work/root" "$cache/root"
  rm -rf "$work"
}

# wrap puts a script in front of each program that has none yet: the kernel would start it with this machine's libraries.
wrap() {
  local program libraries=$cache/root/usr/lib/x86_64-linux-gnu
  mkdir -p "$cache/bin"
  for program in "$cache"/root/usr/lib/postgresql/17/bin/{postgres,initdb,pg_ctl,pg_basebackup,psql,pgbench} "$cache/root/usr/sbin/pgbouncer"; do
    [[ ! -e $program.elf ]] || continue
    mv "$program" "$program.elf"
    printf '#!/bin/sh\nexec %q --library-path %q --argv0 "$0" %q "$@"\n' \
      "$libraries/ld-linux-x86-64.so.2" "$libraries" "$program.elf" > "$program"
    chmod 755 "$program"
    ln -sf "$program" "$cache/bin/"
  done
}

bin=
for control in /usr/share/postgresql/*/extension/vector.control; do
  version=${control#/usr/share/postgresql/}
  [[ ! -x /usr/lib/postgresql/${version%%/*}/bin/postgres ]] || bin=/usr/lib/postgresql/${version%%/*}/bin
done
if [[ -z $bin ]]; then
  mkdir -p "$cache"
  (flock 9 && { [[ -d $cache/root ]] || unpack; } && wrap) 9> "$cache/lock" || fail "unpacking Debian's packages failed"
  bin=$cache/root/usr/lib/postgresql/17/bin
fi

as=(env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 TZ=UTC)
if [[ $(id -u) = 0 ]]; then # PostgreSQL refuses to run as root
  as=(setpriv --reuid=nobody --regid=nogroup --clear-groups "${as[@]}")
  chown nobody "$dir"
fi
cd "$dir"
if [[ ! -d $dir/data && -n ${PRIMARY:-} ]]; then
  "${as[@]}" "$bin/pg_basebackup" -D "$dir/data" -h 127.0.0.1 -p "$(cat "$PRIMARY/port")" -U postgres \
    --write-recovery-conf --checkpoint=fast --no-sync > "$dir/basebackup.log" 2>&1 ||
    fail "pg_basebackup: $(tail -3 "$dir/basebackup.log")"
fi
if [[ ! -d $dir/data ]]; then
  "${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync > "$dir/initdb.log" 2>&1 ||
    fail "initdb: $(tail -3 "$dir/initdb.log")"
fi
ports=$(cat "$dir/port" 2> "$dir/port.log" || shuf -i 20000-31999 -n 8) # below the range that clients' ports come from
for port in $ports; do
  if "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/log" -w -s \
    -o "-c port=$port -c listen_addresses=127.0.0.1 -c unix_socket_directories= $options" start > "$dir/start.log" 2>&1 < /dev/null; then
    echo "$port" > "$dir/port"
    echo "postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
    exit
  fi
done
tail -5 "$dir/data/log" >&2
fail "the server did not start"
