{{/*
Names and labels are those of 2.7.1's chart, so that `helm upgrade` finds what is there: the selector
of a Deployment cannot be changed, and callers know the Service by its name.
*/}}

{{- define "config-controller.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "config-controller.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $name = eq .Release.Name $name | ternary $name (printf "%s-%s" .Release.Name $name) }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* ServiceAccount, Role and RoleBinding: in jobNamespace there may be those of other releases. */}}
{{- define "config-controller.account" -}}
{{- printf "%s-%s" (include "config-controller.fullname" .) .Release.Namespace }}
{{- end }}

{{- define "config-controller.jobNamespace" -}}
{{- .Values.jobNamespace | default .Release.Namespace }}
{{- end }}

{{- define "config-controller.selector" -}}
app.kubernetes.io/name: {{ include "config-controller.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "config-controller.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "config-controller.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
