# shellcheck shell=bash
# The node whose pods really run: containerd and kubelet, in a mount namespace of their own.
#
# In that namespace the usual paths (/run/containerd, /run/netns, /var/lib/kubelet, …) are folders of this
# cluster. So the node meets neither the machine's own containerd nor another cluster's, paths stay short
# whatever the cluster's folder is called, and all of the node's mounts and its pods' network namespaces
# end with its last process, even if that is killed: nothing has to be unmounted.
#
# The network is the machine's: a bridge with an address of the cluster's range, one veth pair a pod. Pods
# have one route beyond the bridge's own range, that to Services by the router on it (services.bash); the
# machine forwards nothing for them, so no iptables rule is needed.

# What is laid over what, in the node's own mount namespace.
node_mounts=(run/containerd run/netns var/lib/kubelet var/log/containers var/log/pods)

# kubelet insists on these values; it is shown files that have them, and the machine's own stay as they are.
kernel_settings=(vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000)

start_node() {
    make_pod_cgroup
    write_node_files
    start containerd unshare --mount --propagation private bash "$here/node_namespace" "$folder/node" \
        containerd --config "$folder/node/containerd.toml"
    await_running 30 containerd "containerd answers" in_node ctr version
    import_images
    start_ahead kubelet nsenter --target "$(cat "$folder/run/containerd.pid")" --mount \
        "$programs/kubelet" --config="$folder/node/kubelet.yaml" --kubeconfig="$pki/kubelet.kubeconfig" \
        --hostname-override="$real_node" --node-ip="$bridge_address" --root-dir=/var/lib/kubelet
}

in_node() { nsenter --target "$(cat "$folder/run/containerd.pid")" --mount "$@"; }

await_node() {
    await_running 60 kubelet "the node $real_node is ready" node_ready "$real_node"
}

# Ready, and also rid of the taint that kept pods away until then.
node_ready() {
    local seen
    seen=$(kubectl get node "$1" --request-timeout=5s \
        -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}') || return 1
    [[ $seen == True\ * && $seen != *node.kubernetes.io/not-ready* ]]
}

# kubelet sets limits on its root of cgroups before runc has made it for the first container. With cgroup
# v1 that root is in every hierarchy, and a new cpuset takes no process before it has been given CPUs.
make_pod_cgroup() {
    local hierarchy setting
    [[ ! -e /sys/fs/cgroup/cgroup.controllers ]] || return 0
    for hierarchy in /sys/fs/cgroup/*; do
        [[ -e $hierarchy/cgroup.procs ]] || continue
        mkdir -p "$hierarchy/$cgroup"
        for setting in cpuset.cpus cpuset.mems; do
            [[ ! -e $hierarchy/$setting ]] || cat "$hierarchy/$setting" >"$hierarchy/$cgroup/$setting"
        done
    done
}

make_bridge() {
    ip link add "$bridge" type bridge
    ip address add "$bridge_address/22" dev "$bridge"
    ip link set "$bridge" up
}

remove_bridge() {
    await 10 "no pod's network device is left on $bridge" no_device_on_bridge
    ! ip link show "$bridge" >/dev/null 2>&1 || ip link delete "$bridge"
}

# A pair goes with the namespace of its other end, and that outlives its processes for as long as the
# kernel tries to end their connections: minutes, since the router of Services has gone, too.
no_device_on_bridge() {
    local device
    while read -r _ device _; do ip link delete "${device%%@*}" || true; done < <(devices_on_bridge)
    [[ -z $(devices_on_bridge) ]]
}

devices_on_bridge() { ip -o link show master "$bridge" 2>/dev/null | tr -d :; }

write_node_files() {
    local node=$folder/node at setting
    for at in "${node_mounts[@]}"; do mkdir -p "$node/over/$at" "/$at"; done
    for setting in "${kernel_settings[@]}"; do
        mkdir -p "$node/over/proc/sys/$(dirname "$setting")"
        echo "${setting#*=}" >"$node/over/proc/sys/${setting%%=*}"
    done
    mkdir -p "$node/cni" "$node/plugins" "$node/pods"
    # Pods are not to ask this machine's name servers; the file must exist.
    echo "# none" >"$node/resolv.conf"
    write_containerd_file "$node"
    write_network_file "$node"
    write_kubelet_file "$node"
}

write_containerd_file() {
    cat >"$1/containerd.toml" <<END
version = 2
root = "$1/containerd"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$1/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause_image"
  # A process in a sandbox may not lower its own score, so containers cannot either.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(cni_folder)"
    conf_dir = "$1/cni"
END
}

write_network_file() {
    cat >"$1/cni/10-pods.conflist" <<END
{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "bridge",
    "bridge": "$bridge",
    "ipam": {
      "type": "host-local",
      "dataDir": "$1/addresses",
      "ranges": [[{"subnet": "$pod_range", "rangeStart": "$first_pod_address", "gateway": "$bridge_address"}]],
      "routes": [{"dst": "$service_range", "gw": "$services_address"}]
    }
  }]
}
END
}

write_kubelet_file() {
    cat >"$1/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# The API server reaches it there (logs, exec); pods and this machine only.
address: $bridge_address
port: $kubelet_port
healthzPort: 0
tlsCertFile: $pki/kubelet-server.crt
tlsPrivateKeyFile: $pki/kubelet-server.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: $pki/ca.crt}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
# Pods' cgroups are all below the cluster's own.
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
# A full disk is the machine's affair: no pod is evicted for it, and no image of ours removed.
evictionHard: {}
imageGCHighThresholdPercent: 100
clusterDNS: [$services_address]
clusterDomain: cluster.local
# The rules of Services are elsewhere, and this machine gets none.
makeIPTablesUtilChains: false
resolvConf: $1/resolv.conf
podLogsDir: /var/log/pods
volumePluginDir: $1/plugins
maxPods: 500
serializeImagePulls: false
END
}
