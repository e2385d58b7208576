# shellcheck shell=bash
# What must be on the machine, and the programs of Kubernetes: built once from go.mod, kept outside the
# repository in a folder named after what they are made of, so that an unchanged go.mod never builds
# twice and a changed one never runs old programs.

# Where built programs and images are kept; CLUSTER_CACHE puts it elsewhere.
cache=${CLUSTER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/config-controller}

# Debian's package for each command that we call (a path means that file).
needed_packages=(
    containerd:containerd
    runc:runc
    ip:iproute2 ss:iproute2
    openssl:openssl
    nft:nftables
    nsenter:util-linux flock:util-linux mount:mount
    cni:containernetworking-plugins
)

cni_folder() {
    local at
    for at in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
        if [[ -x $at/bridge && -x $at/host-local && -x $at/loopback ]]; then
            echo "$at"
            return
        fi
    done
    return 1
}

missing_packages() {
    local pair
    for pair in "${needed_packages[@]}"; do
        case ${pair%%:*} in
            cni) cni_folder >/dev/null || echo "${pair#*:}" ;;
            *) command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}" ;;
        esac
    done | sort -u
}

check_machine() {
    local missing
    PATH=$PATH:/usr/sbin:/sbin
    [[ $(uname -s) == Linux ]] || cannot "The cluster's node needs Linux; this is $(uname -s)."
    ((EUID == 0)) || cannot "The cluster's node needs root: it makes cgroups, mounts and network devices."
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} > 0)); then
        command -v apt-get >/dev/null || cannot "Missing on this machine: ${missing[*]} (names of Debian's packages)."
        say "Installing Debian's packages: ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -qq --no-install-recommends "${missing[@]}"; } >/dev/null ||
            cannot "Missing on this machine, and apt-get could not install: ${missing[*]}."
        mapfile -t missing < <(missing_packages)
        ((${#missing[@]} == 0)) || cannot "Still missing after apt-get installed it: ${missing[*]}."
    fi
    [[ -w /sys/fs/cgroup ]] || cannot "The cluster's node needs a cgroup filesystem that it can write to at /sys/fs/cgroup."
}

# check_disk FOLDER MEBIBYTES WHAT
check_disk() {
    local at=$1 free
    while [[ ! -e $at ]]; do at=$(dirname "$at"); done
    free=$(df --output=avail -B1M "$at" | tail -1)
    ((free >= $2)) || cannot "$3 needs $2 MiB on the disk of $1, and $((free)) MiB are free."
}

check_go() {
    local wanted have
    command -v go >/dev/null || cannot "Missing on this machine: Go, which builds the cluster's programs."
    wanted=$(sed -n 's/^go //p' "$here/go.mod")
    have=$(cd / && go env GOVERSION)
    printf 'go%s\n%s\n' "$wanted" "$have" | sort -CV ||
        cannot "The cluster's programs need Go $wanted or newer; this is $have."
}

kubernetes_version=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$here/go.mod")
build_flags=(-trimpath "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=$kubernetes_version")

# The folder of programs, built if it is not there.
build_programs() {
    programs=$cache/programs-$({ cat "$here/go.mod" "$here/go.sum"; echo "${build_flags[*]}"; } | sha256sum | cut -c1-16)
    [[ ! -d $programs ]] || return 0
    check_go
    mkdir -p "$cache"
    exec 8>"$cache/lock"
    flock 8
    if [[ ! -d $programs ]]; then
        check_disk "$(go env GOCACHE)" 6000 "Building the programs"
        check_disk "$cache" 1000 "Keeping the programs"
        go_build_with_progress "$here" tool
        mv "$programs.new/server" "$programs.new/etcd"
        mv "$programs.new" "$programs"
    fi
    exec 8>&-
}

# go_build_with_progress MODULE PACKAGE...: from the module in that folder, into $programs.new.
go_build_with_progress() {
    local began=$SECONDS new=$programs.new log=$programs.log total pid built step=0 module=$1
    shift
    say "Building Kubernetes' programs from their Go modules: once, 6 to 9 minutes on 2 cores, into $programs"
    say "  fetching the modules"
    total=$(cd "$module" && CGO_ENABLED=0 go list -deps "$@" 2>"$log" | wc -l) ||
        fail "Go could not fetch the modules: $(tail -3 "$log")"
    rm -rf "$new"
    mkdir -p "$new"
    (cd "$module" && CGO_ENABLED=0 exec nice go build -v "${build_flags[@]}" -o "$new/" "$@" >"$log" 2>&1 8>&- 9>&-) &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        ((++step % 40 == 0)) || continue
        built=$(grep -c '^[a-z].*[^:]$' "$log" || true)
        say "  $built of at most $total packages, then the programs are linked; $((SECONDS - began)) s so far"
    done
    wait "$pid" || fail "The build failed: $(grep -v '^[a-z0-9.]*/[^ ]*$' "$log" | tail -5)"
    say "  built in $((SECONDS - began)) s"
}
