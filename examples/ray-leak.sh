#!/usr/bin/env bash
# Ray's first example: a task that leaks memory for ever, and that may be retried for ever. It is killed once and fails,
# because it is the last task of its owner: retrying it would end the same way.
#
#   sudo MONITOR=target/debug/monitor examples/ray-leak.sh [--limit MIB]
#
# --limit MIB   the memory that there is (default 256; for a node's size: --limit 16384)
. "$(dirname "$0")/common.sh"

limit=$(limit 256 "$@")
guard "$limit" 0.6
status=0
# tail keeps what has no line break, and /dev/zero never ends. Its reader gives it at most 200 MiB a second.
worker --owner driver --name leak --max-retries -1 -- \
    sh -c 'while head -c 10M /dev/zero; do sleep 0.05; done | tail' || status=$?
echo "exit status $status (137: killed for memory, and not retried)"
[ $status = 137 ]
