# shellcheck shell=bash
# What the examples share (they source this file): a memory cgroup of their own, and an agent that guards nothing else. Only
# processes in that cgroup are registered, so only these can be killed.

set -euo pipefail

: "${MONITOR:=monitor}"
command -v "$MONITOR" >/dev/null || {
    echo "$MONITOR was not found: build it (cargo build) and put it on the PATH, or set MONITOR" >&2
    exit 1
}
[ "$(id -u)" = 0 ] || {
    echo "run it as root: it makes a cgroup of its own" >&2
    exit 1
}

# The limit in MiB, from the arguments of the example (--limit MIB); $1 is the default.
limit() {
    local limit=$1
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --limit) limit=${2:?--limit MIB} && shift 2 ;;
        *) echo "unknown argument: $1" >&2 && exit 2 ;;
        esac
    done
    echo "$limit"
}

# Sizes are in MiB. $1: the limit of the cgroup; $2: the usage threshold.
guard() {
    local name="monitor-example-$$" root=/sys/fs/cgroup/memory limit=memory.limit_in_bytes swap=
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        root=/sys/fs/cgroup limit=memory.max
        echo +memory >$root/cgroup.subtree_control
    fi
    dir=$(mktemp -d)
    box="$root/$name"
    mkdir "$box"
    trap clean EXIT
    echo $(($1 << 20)) >"$box/$limit"
    for swap in memory.swap.max memory.swappiness; do
        [ ! -e "$box/$swap" ] || echo 0 >"$box/$swap"
    done
    "$MONITOR" agent --cgroup "/$name" --usage-threshold "$2" --socket "$dir/socket" \
        --journal "$dir/journal" 2>"$dir/agent.log" &
    agent=$!
    export MONITOR_SOCKET="$dir/socket"
    until "$MONITOR" status >/dev/null 2>&1; do
        kill -0 $agent 2>/dev/null || { cat "$dir/agent.log" >&2; exit 1; }
        sleep 0.1
    done
}

# Ends the processes that are left in the cgroup, then the agent.
clean() {
    local pid
    for _ in $(seq 100); do
        grep -q . "$box/cgroup.procs" || break
        while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$box/cgroup.procs"
        sleep 0.1
    done
    [ -z "${agent:-}" ] || { kill "$agent" 2>/dev/null; wait "$agent" 2>/dev/null; } || true
    # A process that has ended counts as a member until its parent waits for it.
    for _ in $(seq 100); do
        rmdir "$box" 2>/dev/null && break
        sleep 0.1
    done
    rm -rf "$dir"
}

# Runs `monitor run` with these arguments within the cgroup.
worker() {
    (
        echo $BASHPID >"$box/cgroup.procs"
        exec "$MONITOR" run "$@"
    )
}

# How many bytes are used in the cgroup, as the agent reads it.
used() {
    "$MONITOR" status --json | tr ',{' '\n' | sed -n 's/^"used"://p' | head -n 1
}

# Waits until at least $1 MiB are used.
wait_used() {
    local want=$(($1 << 20))
    until [ "$(used)" -ge $want ]; do sleep 0.1; done
}

# A command that allocates $1 MiB, holds it for $2 seconds, and ends with 0.
hog() {
    # tail keeps all its input, which has no line break, until the input ends. Then its output blocks until sleep ends.
    echo "head -c $(($1 << 20)) /dev/zero | tail | sleep $2"
}
