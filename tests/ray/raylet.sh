# What a raylet does as far as the agent is concerned: it says its line in its log, starts workers, reads the usage again and
# again, and kills the newest worker when that is above its line. Called `raylet`, with a raylet's options behind.
# Environment: LINE, TOTAL, USAGE (a cgroup's file, or /proc/meminfo), LOG, SEEN (what it read), HOG, SIZES (MiB of each
# worker), READS=no (it never reads) or twice (the second reading decides, as with Ray's policy by_time), SAYS=no (its log
# says nothing that is known).
if [ "$SAYS" != no ]; then
    echo "[1] (raylet) threshold_memory_monitor.cc:53: ThresholdMemoryMonitor initialized with usage threshold at $LINE bytes" \
        "(70.0% of system memory), total system memory bytes: $TOTAL, monitor interval: 100ms"
fi >"$LOG"
usage() {
    case $USAGE in
        */meminfo) while read -r key kib _; do
                case $key in MemTotal:) total=$kib ;; MemAvailable:) used=$(((total - kib) * 1024)) ;; esac
            done <"$USAGE" ;;
        *) read -r used <"$USAGE" ;;
    esac
}
workers=
for size in $SIZES; do
    "$HOG" --mib "$size" --rate 100 --hold forever --with-parent &
    workers="$! $workers"
    echo $! >>"$SEEN.workers"
    sleep 0.05
done
while :; do
    sleep 0.1
    [ "$READS" = no ] && continue
    usage
    echo "$used" >>"$SEEN"
    if [ "$used" -gt "$LINE" ] && [ "$READS" = twice ]; then
        usage
        echo "$used" >>"$SEEN"
    fi
    if [ "$used" -gt "$LINE" ]; then
        set -- $workers
        [ $# -gt 0 ] && kill -9 "$1" && shift
        workers="$*"
    fi
done
