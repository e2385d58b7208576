# shellcheck shell=bash
# etcd, the API server, the controller manager and the scheduler, with RBAC, and with all controllers and
# admission plug-ins that a cluster has by default. The API server listens on the bridge, where pods reach
# it, the others on 127.0.0.1; nothing of it is reached from another machine.

start_etcd() {
    # What etcd holds need not outlive the machine, so it waits for no disk.
    start_ahead etcd "$programs/etcd" --name=tests --data-dir="$folder/etcd" --unsafe-no-fsync --log-level=warn \
        --listen-client-urls="http://127.0.0.1:$etcd_port" --advertise-client-urls="http://127.0.0.1:$etcd_port" \
        --listen-peer-urls="http://127.0.0.1:$etcd_peer_port" --initial-advertise-peer-urls="http://127.0.0.1:$etcd_peer_port" \
        --initial-cluster="tests=http://127.0.0.1:$etcd_peer_port"
}

start_apiserver() {
    start_ahead kube-apiserver "$programs/kube-apiserver" \
        --etcd-servers="http://127.0.0.1:$etcd_port" \
        --bind-address="$bridge_address" --secure-port="$api_port" --advertise-address="$bridge_address" \
        --service-cluster-ip-range="$service_range" \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --client-ca-file="$pki/ca.crt" --authorization-mode=Node,RBAC \
        --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file="$pki/service-accounts.pub" \
        --service-account-signing-key-file="$pki/service-accounts.key" \
        --kubelet-client-certificate="$pki/kubelet-client.crt" --kubelet-client-key="$pki/kubelet-client.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP
}

apiserver_ready() { kubectl get --raw=/readyz --request-timeout=2s; }

await_apiserver() {
    await_running 60 kube-apiserver "the API server is ready" apiserver_ready
}

start_controllers() {
    start_ahead kube-controller-manager "$programs/kube-controller-manager" \
        --kubeconfig="$pki/controller-manager.kubeconfig" \
        --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
        --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
        --bind-address=127.0.0.1 --secure-port="$controller_manager_port" --cert-dir="$folder/controller-manager" \
        --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000 \
        --use-service-account-credentials --root-ca-file="$pki/ca.crt" \
        --service-account-private-key-file="$pki/service-accounts.key"
    start_ahead kube-scheduler "$programs/kube-scheduler" \
        --kubeconfig="$pki/scheduler.kubeconfig" \
        --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
        --authorization-kubeconfig="$pki/scheduler.kubeconfig" \
        --bind-address=127.0.0.1 --secure-port="$scheduler_port" --cert-dir="$folder/scheduler" \
        --leader-elect=false --kube-api-qps=500 --kube-api-burst=1000
}

# Pods can be made in the namespace `default` from the moment that it has its service account.
await_controllers() {
    await_running 60 kube-controller-manager "the namespace default has its service account" \
        kubectl get serviceaccount default
}
