{{- define "monitor.name" -}}
{{- printf "%s" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "monitor.selector" -}}
app.kubernetes.io/name: monitor
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "monitor.labels" -}}
{{ include "monitor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* What the agent is told, and what the chart says for it. Helm has every number as a float: whole ones are whole. */}}
{{- define "monitor.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- /* The mode says all that the chart's own dry_run would. */ -}}
{{- if hasKey $settings "mode" -}}
{{- $_ := unset $settings "dry_run" -}}
{{- end -}}
{{- if .Values.metrics.enabled -}}
{{- $_ := set $settings "http_listen" (printf "%s:%d" .Values.metrics.address (int .Values.metrics.port)) -}}
{{- end -}}
{{- range $key, $value := $settings -}}
{{- if and (kindIs "float64" $value) (eq (floor $value) $value) -}}
{{- $_ := set $settings $key (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- toToml $settings -}}
{{- end -}}

{{/* How the kubelet asks: by HTTP where that is served, else by the socket. */}}
{{- define "monitor.probe" -}}
{{- $top := index . 0 -}}
{{- if $top.Values.metrics.enabled -}}
httpGet:
  path: {{ index . 1 }}
  port: metrics
{{- else -}}
exec:
  command: ["/usr/bin/monitor", "status"]
{{- end -}}
{{- end -}}
