{{/* What the service may do; a test keeps these identical to manifests/base/role.yaml. */}}
{{- define "config-controller.rules" -}}
# Instances are Jobs: list and watch find them, create starts, delete stops, and patch lets those run
# that wait for a cap (max-instances). get, here and below, compares what the watches have shown with
# etcd, of one object at a time.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, delete, get, list, patch, watch]
# Templates are ConfigMaps; config-controller never changes them.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch]
# Pods provide readiness and addresses, and patch writes meta labels to them. delete stops a pod that
# has outlived its Job, and force-deletes the pod of a dead node, so that its name is free again.
- apiGroups: [""]
  resources: [pods]
  verbs: [delete, get, list, patch, watch]
# Only Events tell why a pod is rejected, not mounted or not ready; without this, messages say less.
- apiGroups: [""]
  resources: [events]
  verbs: [list, watch]
{{- end }}

{{/* The same in the namespace of the release, where the replicas are. */}}
{{- define "config-controller.leasesRules" -}}
# Each replica writes into a Lease of its own which instances are used, and the others read it; without
# this, no instance is stopped because nobody uses it.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, list, patch, watch]
{{- end }}

{{/*
What it may do beside that with `dryRunPods`. RBAC does not tell a dry run from a real one, so this is a
right to run anything in the namespace of the instances.
*/}}
{{- define "config-controller.dryRunPodsRules" -}}
- apiGroups: [""]
  resources: [pods]
  verbs: [create]
{{- end }}

{{/* The same with `readLogs`: the logs of all pods in the namespace of the instances. */}}
{{- define "config-controller.readLogsRules" -}}
- apiGroups: [""]
  resources: [pods/log]
  verbs: [get]
{{- end }}
