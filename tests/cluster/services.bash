# shellcheck shell=bash
# Services and names: kube-proxy, by which a Service's address leads to its pods, and CoreDNS, which knows
# Services by their names. Both are in a network namespace of their own, with one foot on the bridge: a
# router for the services' range, whose address is also that of the name server.
#
# So this machine gets no rule, forwards nothing, and tracks no connection for a cluster; clusters side by
# side have a table each, all called kube-proxy; and all of it ends with the namespace's last process, also
# when that is killed. On a node of a real cluster the rules are in the node's own namespace; they are the
# same. All callers look to a pod as if they came from the router, since the pods of one bridge would answer
# each other directly; whom `sessionAffinity` sends where is decided before that.

start_services() {
    start_ahead kube-proxy unshare --net bash "$here/services_namespace" "$$" "$bridge" "$services_device" \
        "$services_address/22" "$bridge_address" \
        "$programs/kube-proxy" --proxy-mode=nftables --masquerade-all \
        --kubeconfig="$pki/kube-proxy.kubeconfig" --hostname-override="$real_node" \
        --healthz-bind-address="$services_address:$proxy_health_port" \
        --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
    await_running 30 kube-proxy "the router $services_address is on the bridge" device_is_up
    ip route add "$service_range" via "$services_address" dev "$bridge"
    write_name_file
    start coredns nsenter --target "$(cat "$folder/run/kube-proxy.pid")" --net \
        "$name_server" -conf "$folder/Corefile"
}

device_is_up() { ip -o link show master "$bridge" up | grep -q " $services_device[@:]"; }

# Names of others are refused: pods have no way beyond the cluster.
write_name_file() {
    cat >"$folder/Corefile" <<END
.:53 {
    bind $services_address
    errors
    ready $services_address:$names_health_port
    kubernetes cluster.local {
        kubeconfig $pki/names.kubeconfig tests
        ttl 5
    }
}
END
}

await_services() {
    await_running 60 kube-proxy "kube-proxy has made its rules" answers_200 "$proxy_health_port" /healthz
    await_running 60 coredns "CoreDNS knows the cluster's names" answers_200 "$names_health_port" /ready
}

# answers_200 PORT PATH: of the router, without a program for HTTP.
answers_200() (
    local line
    exec 3<>"/dev/tcp/$services_address/$1"
    printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
    read -r -t 2 line <&3
    [[ $line == HTTP/*\ 200\ * ]]
)

# Sets `name_server` to the program, built where it is not there, and kept by what it is made of.
build_name_server() {
    local at
    at=$cache/name-server-$(cat "$here"/names/{go.mod,go.sum,main.go} | sha256sum | cut -c1-16)
    name_server=$at/coredns
    [[ ! -d $at ]] || return 0
    check_go
    mkdir -p "$cache"
    exec 8>"$cache/name-server.lock"
    flock 8
    if [[ ! -d $at ]]; then
        check_disk "$(go env GOCACHE)" 1000 "Building CoreDNS"
        say "Building CoreDNS from its Go module: once, 1 to 2 minutes on 2 cores, into $at"
        (cd "$here/names" && CGO_ENABLED=0 nice go build -trimpath '-ldflags=-s -w' -o "$at.new/coredns" . \
            >"$cache/name-server.log" 2>&1 8>&- 9>&-) ||
            fail "Go could not build CoreDNS: $(tail -3 "$cache/name-server.log")"
        mv "$at.new" "$at"
    fi
    exec 8>&-
}
