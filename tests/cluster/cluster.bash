# shellcheck shell=bash
# What a cluster is: a folder, and the names, addresses and ports that follow from the folder's path.
# Everything of a cluster that does not lie in its folder carries the id made here (one bridge, one
# cgroup), so clusters in two folders share nothing, and `down` finds what is ours though the folder
# is gone. Also: how these scripts speak, fail and wait.

say() { echo "$*" >&2; }
fail() { say "$*"; exit 1; }
# What this machine lacks, in one sentence. Callers know from the 3 that nothing was tried.
cannot() { say "$*"; exit 3; }

# await SECONDS WHAT COMMAND...: polls until the command succeeds; fails, naming WHAT, at the deadline.
await() {
    local seconds=$1 what=$2 deadline=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "Waited $seconds s in vain: $what."
        sleep 0.1
    done
}

# name_cluster FOLDER: sets what follows from the folder's path alone.
name_cluster() {
    case $1 in
        -h | --help)
            # The head of the program that was called says how it is called.
            sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
            exit
            ;;
        -*) fail "$1 is no folder; --help says how this is called." ;;
    esac
    folder=$(realpath -m -- "$1")
    # The path goes into configuration files of four formats; none of them quotes the same way.
    [[ $folder =~ ^/[A-Za-z0-9._/+-]+$ ]] || fail "The folder's path may have letters, digits and ._/+- only: $folder"
    id=$(printf %s "$folder" | sha256sum | cut -c1-8)
    mark=$folder/.config-controller-cluster
    cgroup=config-controller-$id
    bridge=cc-$id
    services_device=$bridge-s
    # Not below the folder: `down` holds it while the folder goes.
    lock=$folder.lock
    real_node=real-node
    stand_in_node=stand-in-node
    pki=$folder/pki
}

# One `up`, `down` or `apiserver` at a time for a folder. Started processes must not inherit fd 9. The
# file that was locked may be one that a `down` has removed meanwhile; then there is a new one to lock.
lock_cluster() {
    mkdir -p "$(dirname "$lock")"
    until [[ $lock -ef /dev/fd/9 ]]; do
        exec 9>"$lock"
        flock -w 900 9 || fail "Another command has been working on $folder for 15 minutes."
    done
}

unlock_cluster() { rm -f "$lock"; }

# A folder with something else in it is never taken over, nor removed. The cgroup tells of a cluster
# whose mark was removed with the rest of the folder while it ran.
check_folder_is_ours() {
    [[ -e $mark || ! -e $folder || -d $(processes_root) ]] || [[ -d $folder && -z $(ls -A "$folder") ]] ||
        fail "$folder is not empty and not a cluster's folder."
}

# Ten ports in a row below those that the kernel gives out by itself, from a place that the id chooses.
choose_ports() {
    local start=$((16#$id % 1200)) step base listening
    listening=$(ss -Hltn | awk '{ sub(/.*:/, "", $4); print int($4 / 10) }')
    for ((step = 0; step < 1200; step++)); do
        base=$((20000 + (start + step) % 1200 * 10))
        grep -qx "$((base / 10))" <<<"$listening" || break
    done
    api_port=$base etcd_port=$((base + 1)) etcd_peer_port=$((base + 2)) controller_manager_port=$((base + 3))
    scheduler_port=$((base + 4)) kubelet_port=$((base + 5)) stand_in_port=$((base + 6))
    # In a namespace of their own (services.bash), where nothing else listens.
    proxy_health_port=10256 names_health_port=8181
}

# Eight times 256 addresses of 10.128.0.0/9 that nothing on this machine routes to, from a place that
# the id chooses: the first half for pods and the bridge, the second for services.
choose_addresses() {
    local start=$((16#$id % 4096)) step block
    for ((step = 0; step < 4096; step++)); do
        block=$(((start + step) % 4096))
        prefix=10.$((128 + block / 32))
        third=$((block % 32 * 8))
        [[ -n $(ip -4 route show root "$prefix.$third.0/21"; ip -4 route show match "$prefix.$third.0/21" | grep -v '^default') ]] || break
    done
    pod_range=$prefix.$third.0/22
    bridge_address=$prefix.$third.1
    services_address=$prefix.$third.2
    first_pod_address=$prefix.$third.3
    service_range=$prefix.$((third + 4)).0/22
    service_address=$prefix.$((third + 4)).1
    api_url=https://$bridge_address:$api_port
}

# The facts of a running cluster, for tests and for the other commands here: plain KEY=VALUE lines.
write_env() {
    cat >"$folder/env.new" <<END
CLUSTER_FOLDER=$folder
CLUSTER_KUBECONFIG=$folder/kubeconfig
CLUSTER_API_URL=$api_url
CLUSTER_CA=$pki/ca.crt
CLUSTER_CLIENT_CERTIFICATE=$pki/admin.crt
CLUSTER_CLIENT_KEY=$pki/admin.key
CLUSTER_KUBECTL=$programs/kubectl
CLUSTER_PROGRAMS=$programs
CLUSTER_APISERVER=$here/apiserver
CLUSTER_DOWN=$here/down
CLUSTER_PID_FILES=$folder/run
CLUSTER_LOGS=$folder/log
CLUSTER_NODE=$real_node
CLUSTER_STAND_IN_NODE=$stand_in_node
CLUSTER_STAND_IN_TAINT=kwok.x-k8s.io/node
CLUSTER_BRIDGE=$bridge
CLUSTER_BRIDGE_ADDRESS=$bridge_address
CLUSTER_POD_RANGE=$pod_range
CLUSTER_SERVICE_RANGE=$service_range
CLUSTER_SERVICE_ADDRESS=$service_address
CLUSTER_NAME_SERVER=$services_address
CLUSTER_API_PORT=$api_port
CLUSTER_ETCD_PORT=$etcd_port
CLUSTER_DEMO_IMAGE=$demo_image
END
    mv "$folder/env.new" "$folder/env"
}

# What `apiserver` needs to know of a cluster that another command has made.
read_env() {
    [[ -r $folder/env ]] || fail "No cluster in $folder: start it with $here/up $folder"
    # shellcheck disable=SC1091
    . "$folder/env"
    api_url=$CLUSTER_API_URL programs=$CLUSTER_PROGRAMS bridge_address=$CLUSTER_BRIDGE_ADDRESS
    service_range=$CLUSTER_SERVICE_RANGE api_port=$CLUSTER_API_PORT etcd_port=$CLUSTER_ETCD_PORT
    etcd_peer_port=$((etcd_port + 1))
}

kubectl() { "$programs/kubectl" --kubeconfig="$folder/kubeconfig" "$@"; }
