#!/usr/bin/env bash
# Ray's first example: a task that leaks memory endlessly and has unlimited retries. It is killed once and fails, because it
# is the last task of its owner: a retry would run out of memory again.
#
#   sudo MONITOR=target/debug/monitor examples/ray-leak.sh [--limit MIB]
#
# --limit MIB   how much memory there is (default 256; as on a node: --limit 16384)
. "$(dirname "$0")/common.sh"

limit=$(limit 256 "$@")
guard "$limit" 0.6
status=0
# tail keeps a line in memory until its end, and /dev/zero never ends one. head passes on at most 200 MiB a second.
worker --owner driver --name leak --max-retries -1 -- \
    sh -c 'while head -c 10M /dev/zero; do sleep 0.05; done | tail' || status=$?
echo "exit status $status (137: killed for memory, and not retried)"
[ $status = 137 ]
