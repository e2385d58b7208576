# shellcheck shell=bash
# Kubernetes at an older version, to see that the service gets on with it: KUBE_VERSION=1.31 tests/cluster/up.
#
# Kubernetes' own programs are built from that version's published modules, as its own go.mod combines
# them; what go.mod here names beside them (etcd, kwok, …) stays as it is. They lie in a folder of their
# own in the cache, and a cluster of another version is another cluster: in the same folder, it takes
# the place of the one that runs there.

# Replaces `programs`, which are those of go.mod, by a folder with the older ones. A version without
# its last part is the first release of that line: the oldest there is, and so the hardest to please.
build_older_programs() {
    local version=v${KUBE_VERSION#v} default=$programs commands program
    [[ $version =~ ^v1\.[0-9]+(\.[0-9]+)?$ ]] || cannot "KUBE_VERSION is like 1.31 or 1.31.0, and not $KUBE_VERSION."
    [[ $version == *.*.* ]] || version+=.0
    [[ $version != "$kubernetes_version" ]] || return 0
    programs=$cache/programs-$version-$({ declare -f write_older_module; echo "$default"; } | sha256sum | cut -c1-16)
    [[ ! -d $programs ]] || return 0
    check_go
    exec 8>"$programs.lock"
    flock 8
    if [[ ! -d $programs ]]; then
        check_disk "$(go env GOCACHE)" 6000 "Building the programs"
        check_disk "$cache" 1000 "Keeping the programs"
        write_older_module "$version" "$programs.module"
        build_flags=("${build_flags[@]//$kubernetes_version/$version}")
        mapfile -t commands < <(sed -n 's|^\t\(k8s\.io/kubernetes/cmd/[a-z-]*\)$|\1|p' "$here/go.mod")
        GOFLAGS="${GOFLAGS:-} -mod=mod" go_build_with_progress "$programs.module" "${commands[@]}"
        # What is not of Kubernetes: the same file under another name.
        for program in "$default"/*; do
            [[ -e $programs.new/${program##*/} ]] || ln "$program" "$programs.new/"
        done
        mv "$programs.new" "$programs"
        rm -rf "$programs.module"
    fi
    exec 8>&-
}

# write_older_module VERSION FOLDER: a module that combines what Kubernetes' own go.mod of that version
# does. Its parts are paths inside its repository there; here each is the module published for the same
# release. Go's checksum database vouches for all of them.
write_older_module() {
    local parts=v0.${1#v1.} file
    file=$(cd / && go mod download -json "k8s.io/kubernetes@$1" | sed -n 's/^\t"GoMod": "\(.*\)",$/\1/p') || true
    [[ -n $file ]] || fail "Go could not fetch Kubernetes $1: is there such a version, and does Go's proxy have it?"
    rm -rf "$2"
    mkdir -p "$2"
    sed -e 's|^module .*|module config-controller.semafor.ch/tests/cluster/older|' \
        -e "s|=> \./staging/src/\(k8s\.io/.*\)$|=> \1 $parts|" "$file" >"$2/go.mod"
    echo "require k8s.io/kubernetes $1" >>"$2/go.mod"
}
