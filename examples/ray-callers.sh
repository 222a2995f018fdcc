#!/usr/bin/env bash
# Ray's figure: two callers with four tasks each run out of memory. The victim is the newest task of the caller that has more
# tasks. If both have the same number, it is the newest task of the caller that began later. So they take turns.
#
#   sudo MONITOR=target/debug/monitor examples/ray-callers.sh [--limit MIB]
#
# --limit MIB   how much memory there is (default 600; as on a node: --limit 16384)
. "$(dirname "$0")/common.sh"

limit=$(limit 600 "$@")
guard "$limit" 0.8
each=$((limit / 25))
for caller in a b; do
    for number in 1 2 3 4; do
        before=$(($(used) >> 20))
        worker --owner $caller --name $caller$number --oom-retry-base-ms 60000 -- \
            sh -c "$(hog $each 600)" 2>"$dir/$caller$number.log" &
        wait_used $((before + each))
    done
done
# A process that is not a worker takes what is left, plus as much as two and a half tasks hold.
other=$((limit * 8 / 10 - ($(used) >> 20) + each * 5 / 2))
(echo $BASHPID >"$box/cgroup.procs" && exec sh -c "$(hog $other 600)") &
until [ "$("$MONITOR" kills --json | tr '}' '\n' | grep -c '"worker"')" -ge 3 ]; do sleep 0.1; done
"$MONITOR" kills
"$MONITOR" kills --json | tr ',' '\n' | sed -n 's/.*"name":"\(.*\)"/killed: \1/p'
