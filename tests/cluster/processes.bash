# shellcheck shell=bash
# The cluster's processes: started in a session and a cgroup of their own, ended by their ids. The
# cgroup is what makes `down` sure: whatever these processes start (shims, containers) is in it or
# below it, also when the process that started it is dead and no id file tells of it.

# The hierarchy in which our cgroup keeps count: the unified one, or with cgroup v1 that of `pids`,
# where containers have theirs too.
processes_root() {
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then echo "/sys/fs/cgroup/$cgroup"
    else echo "/sys/fs/cgroup/pids/$cgroup"; fi
}

# start NAME COMMAND...: its output goes to log/NAME, its id to run/NAME.pid.
start() {
    local name=$1 group pid
    shift
    group=$(processes_root)/programs
    mkdir -p "$group" "$folder/log" "$folder/run"
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        # A program that finds these in its environment takes itself for a pod.
        unset KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT
        exec setsid "$@" >>"$folder/log/$name" 2>&1 </dev/null 9>&-
    ) &
    pid=$!
    disown
    echo "$pid" >"$folder/run/$name.pid"
    while kill -0 "$pid" 2>/dev/null && ! running "$name"; do sleep 0.01; done
}

# start_ahead NAME COMMAND...: as start, ahead of what else this machine does. A cluster's control plane has
# a machine of its own; here tests keep it busy, and would take each other's load for what Kubernetes does
# (a Job that waits longer for its pod than any start is given). Where the kernel shares the processor
# between sessions first, a priority counts only within one, so the session's is raised, too.
start_ahead() {
    # shellcheck disable=SC2016 # for the shell that is started
    start "$1" bash -c '{ echo -10 >/proc/self/autogroup; } 2>/dev/null; exec nice -n -10 "$@"' ahead "${@:2}"
}

# running NAME: an id file may be older than the process that has its number now, so the cgroup decides.
running() {
    local pid
    pid=$(cat "$folder/run/$1.pid" 2>/dev/null) || return 1
    grep -q "/$cgroup/" "/proc/$pid/cgroup" 2>/dev/null && ! grep -q '^State:.Z' "/proc/$pid/status" 2>/dev/null
}

stopped() { ! running "$1"; }

# kill_process NAME: as a machine's failure would, and waits until it is gone.
kill_process() {
    running "$1" || return 0
    kill -KILL "$(cat "$folder/run/$1.pid")" 2>/dev/null || true
    await 10 "$1 ends after a kill" stopped "$1"
}

# signal SIGNAL NAME...
signal() {
    local name
    for name in "${@:2}"; do
        running "$name" || fail "$name of the cluster in $folder does not run."
        kill "-$1" "$(cat "$folder/run/$name.pid")"
    done
}

our_processes() {
    local root
    root=$(processes_root)
    [[ ! -d $root ]] || find "$root" -name cgroup.procs -exec cat {} + 2>/dev/null
}

no_process_left() { [[ -z $(our_processes) ]]; }

kill_all_once() {
    local pids
    mapfile -t pids < <(our_processes)
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    no_process_left
}

kill_all_processes() { await 20 "all processes of $folder end after a kill" kill_all_once; }

# Emptied cgroups go in every hierarchy, children first.
remove_cgroups_once() {
    local root left=0
    for root in /sys/fs/cgroup/"$cgroup" /sys/fs/cgroup/*/"$cgroup"; do
        [[ -d $root ]] || continue
        find "$root" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [[ ! -d $root ]] || left=1
    done
    return $left
}

remove_cgroups() { await 10 "the cgroup $cgroup can be removed" remove_cgroups_once; }

# await_running SECONDS NAME WHAT COMMAND...: as await, but gives up at once when the process NAME has
# ended, and shows the end of its log.
await_running() {
    local seconds=$1 name=$2 what=$3 deadline=$((SECONDS + $1))
    shift 3
    until "$@" >/dev/null 2>&1; do
        if ! running "$name" || ((SECONDS >= deadline)); then
            tail -5 "$folder/log/$name" >&2
            running "$name" || fail "$name has ended (its last lines are above); wanted: $what."
            fail "Waited $seconds s in vain: $what (the last lines of $name are above)."
        fi
        sleep 0.1
    done
}
