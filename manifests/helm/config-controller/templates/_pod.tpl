{{/* Parts of a pod that the Deployment and the check before an installation have in common. */}}

{{- define "config-controller.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion | include "config-controller.text") | quote }}
{{- end }}

{{- define "config-controller.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "config-controller.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* `own` is the pull secret that imageCredentials make. */}}
{{- define "config-controller.pullSecrets" -}}
{{- $all := .root.Values.imagePullSecrets | default list }}
{{- if (.root.Values.imageCredentials).registry }}
{{- $all = prepend $all (dict "name" .own) }}
{{- end }}
{{- with $all }}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{/* Where the pods may run. */}}
{{- define "config-controller.nodes" -}}
{{- with .Values.affinity }}
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      {{- range $key, $value := . }}
      - matchExpressions:
        - key: {{ $key }}
          operator: In
          values:
          - {{ $value | quote }}
      {{- end }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "config-controller.volumeMounts" -}}
{{- if .Values.tlsSecret }}
- name: tls
  mountPath: /etc/config-controller/tls
  readOnly: true
{{- end }}
{{- if eq .Values.auth.mode "token" }}
- name: tokens
  mountPath: /etc/config-controller/auth
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "config-controller.volumes" -}}
{{- with .Values.tlsSecret }}
- name: tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- if eq .Values.auth.mode "token" }}
- name: tokens
  secret:
    secretName: {{ required "auth.mode is token: set auth.tokensSecret to the Secret with the tokens" .Values.auth.tokensSecret }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
