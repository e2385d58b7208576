{{/* The environment of the container: what values of their own stand for, then `settings`. */}}
{{- define "config-controller.env" -}}
- name: JOB_NAMESPACE
  value: {{ include "config-controller.jobNamespace" . | quote }}
{{- with .Values.customConfigSelector }}
- name: CONFIGMAP_SELECTOR
  value: {{ . | quote }}
{{- end }}
{{- if .Values.otel.enabled }}
- name: OTEL_SERVICE_NAME
  value: config-controller
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: http/protobuf
- name: OTEL_METRICS_EXPORTER
  value: none
- name: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
  value: {{ required "otel.enabled is true: set otel.endpoint to the URL of the trace collector" .Values.otel.endpoint | quote }}
{{- end }}
{{- /* As the program itself does: who has named tokens or callers must not be served without them. */}}
{{- if and .Values.auth.tokensSecret (ne .Values.auth.mode "token") }}
{{- fail (printf "auth.tokensSecret is set, but auth.mode is %s: set auth.mode to token, or unset auth.tokensSecret" .Values.auth.mode) }}
{{- end }}
{{- if and .Values.auth.allow (ne .Values.auth.mode "kubernetes") }}
{{- fail (printf "auth.allow is set, but auth.mode is %s: set auth.mode to kubernetes, or unset auth.allow" .Values.auth.mode) }}
{{- end }}
{{- if ne .Values.auth.mode "none" }}
- name: AUTH
  value: {{ .Values.auth.mode | quote }}
{{- end }}
{{- if eq .Values.auth.mode "token" }}
- name: AUTH_TOKENS_FILE
  value: /etc/config-controller/auth/tokens
{{- end }}
{{- if eq .Values.auth.mode "kubernetes" }}
- name: AUTH_ALLOW
  value: {{ required "auth.mode is kubernetes: set auth.allow to the service accounts that may call, as namespace/name" (join "," .Values.auth.allow) | quote }}
{{- end }}
{{- if .Values.tlsSecret }}
- name: TLS_CERT
  value: /etc/config-controller/tls/tls.crt
- name: TLS_KEY
  value: /etc/config-controller/tls/tls.key
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "config-controller.text" $value | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "config-controller.scheme" -}}
{{- empty .Values.tlsSecret | not | ternary "HTTPS" "HTTP" }}
{{- end }}

{{/* A text, a boolean or a number. Whole numbers of YAML arrive as floats, which would get an exponent. */}}
{{- define "config-controller.text" -}}
{{- and (kindIs "float64" .) (eq (floor .) .) | ternary (int64 .) . }}
{{- end }}
