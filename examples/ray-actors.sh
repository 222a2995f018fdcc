#!/usr/bin/env bash
# Ray's second example: two actors that together need more memory than there is. The first may be restarted, the second may
# not. The first is killed, and the second finishes.
#
#   sudo MONITOR=target/debug/monitor examples/ray-actors.sh [--limit MIB]
#
# --limit MIB   how much memory there is (default 256; as on a node: --limit 16384)
. "$(dirname "$0")/common.sh"

limit=$(limit 256 "$@")
guard "$limit" 0.7
each=$((limit * 4 / 10))
worker --kind actor --max-restarts 1 --owner driver --name first -- sh -c "$(hog $each 60)" &
wait_used $each
status=0
worker --kind actor --max-restarts 0 --owner driver --name second -- sh -c "$(hog $each 3)" || status=$?
echo "the second actor ended with exit status $status"
"$MONITOR" kills
[ $status = 0 ]
