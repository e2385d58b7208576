# shellcheck shell=bash
# The stand-in node: kwok plays its part and that of its pods, as stages.yaml says, so that a test can
# have thousands of pods, or pods that misbehave on cue. Pods get addresses of 127.0.0.0/8, so nothing
# that is sent to one leaves the machine. A pod comes here by `nodeName` or by a toleration of the taint
# with a `nodeSelector` on kubernetes.io/hostname.

start_stand_ins() {
    kubectl create -f - >/dev/null <<END
apiVersion: v1
kind: Node
metadata:
  name: $stand_in_node
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: $stand_in_node, kubernetes.io/os: linux, kwok.x-k8s.io/node: fake}
spec:
  taints: [{key: kwok.x-k8s.io/node, value: fake, effect: NoSchedule}]
END
    start kwok "$programs/kwok" --kubeconfig="$pki/stand-ins.kubeconfig" --config="$here/stages.yaml" \
        --manage-all-nodes=false --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
        --node-lease-duration-seconds=40 --cidr=127.128.0.1/9 --node-ip=127.0.0.1 \
        --server-address="127.0.0.1:$stand_in_port"
}

await_stand_ins() {
    await_running 60 kwok "the node $stand_in_node is ready" node_ready "$stand_in_node"
}
