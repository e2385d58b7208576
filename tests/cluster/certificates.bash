# shellcheck shell=bash
# Who is who: one authority for the cluster, a certificate for each program and for the administrator,
# the key that signs service accounts' tokens, and the kubeconfigs that hold them. The groups in the
# subjects are what RBAC's built-in roles are bound to.

make_certificates() {
    mkdir -p "$pki"
    chmod 700 "$pki"
    printf '[req]\ndistinguished_name = dn\nprompt = no\n[dn]\n' >"$pki/openssl.cnf"
    make_key ca
    openssl req -x509 -config "$pki/openssl.cnf" -new -key "$pki/ca.key" -out "$pki/ca.crt" -days 3650 \
        -subj "/CN=config-controller tests $id" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -addext subjectKeyIdentifier=hash
    make_key service-accounts
    openssl pkey -in "$pki/service-accounts.key" -pubout -out "$pki/service-accounts.pub"

    make_certificate apiserver /CN=kube-apiserver "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,\
DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$bridge_address,IP:$service_address"
    make_certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    make_certificate kubelet-server "/CN=$real_node" "DNS:$real_node,IP:$bridge_address"
    make_user admin /O=system:masters/CN=admin
    cp "$pki/admin.kubeconfig" "$folder/kubeconfig"
    make_user controller-manager /CN=system:kube-controller-manager
    make_user scheduler /CN=system:kube-scheduler
    make_user kubelet "/O=system:nodes/CN=system:node:$real_node"
    make_user stand-ins /O=system:masters/CN=stand-ins
    make_user kube-proxy /CN=system:kube-proxy
    make_user names /O=system:masters/CN=names
}

make_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$pki/$1.key"
}

# make_certificate NAME SUBJECT [ALTERNATIVE NAMES]
make_certificate() {
    local names=()
    [[ -z ${3:-} ]] || names=(-addext "subjectAltName=$3")
    make_key "$1"
    openssl req -x509 -config "$pki/openssl.cnf" -new -key "$pki/$1.key" -out "$pki/$1.crt" -days 3650 \
        -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -subj "$2" \
        -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
        -addext extendedKeyUsage=serverAuth,clientAuth "${names[@]}"
}

# make_user NAME SUBJECT: a client certificate, and a kubeconfig that stands alone.
make_user() {
    make_certificate "$1" "$2"
    cat >"$pki/$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters:
- name: tests
  cluster:
    server: $api_url
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$pki/$1.crt")
    client-key-data: $(base64 -w0 "$pki/$1.key")
contexts:
- name: tests
  context: {cluster: tests, user: $1, namespace: default}
current-context: tests
END
    chmod 600 "$pki/$1.kubeconfig"
}
