{{/* The name of all objects. */}}
{{- define "serin.name" -}}
{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The ServiceAccount's name. */}}
{{- define "serin.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "serin.name" .) }}
{{- end }}

{{/* Labels that select the pods. */}}
{{- define "serin.selector" -}}
app.kubernetes.io/name: serin
app.kubernetes.io/component: controller
{{- end }}

{{/* Labels of every object. */}}
{{- define "serin.labels" -}}
{{ include "serin.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The configuration of notifications, without what is empty. */}}
{{- define "serin.notify" -}}
{{- $file := dict }}
{{- range $key, $value := omit .Values.notify "secrets" }}
{{- if $value }}
{{- $_ := set $file $key $value }}
{{- end }}
{{- end }}
{{- toYaml $file }}
{{- end }}

{{/* Whether there is one. */}}
{{- define "serin.notifies" -}}
{{- with .Values.notify }}
{{- if or .receivers .link .allow .deny .endpoints }}true{{ end }}
{{- end }}
{{- end }}

{{/* What Serin does in the namespaces of rollouts; invariant 7 of the design says why nothing more. */}}
{{- define "serin.rules" -}}
- apiGroups: [serin.dev]
  resources: [canaryrollouts]
  verbs: [get, list, watch, patch]
- apiGroups: [serin.dev]
  resources: [canaryrollouts/status]
  verbs: [update]
{{- /* Generated objects block the deletion of their owner; some clusters ask for this permission then. */}}
- apiGroups: [serin.dev]
  resources: [canaryrollouts/finalizers]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [deployments/scale]
  verbs: [patch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes, httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy.linkerd.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [split.smi-spec.io]
  resources: [trafficsplits]
  verbs: [get, list, watch, create, patch, delete]
{{- /* What the preflight looks at, and nothing else does. */}}
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get]
- apiGroups: [""]
  resources: [pods, resourcequotas]
  verbs: [list]
{{- /* Stable's minimum is held while its traffic is elsewhere. */}}
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list]
- apiGroups: [linkerd.io]
  resources: [serviceprofiles]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if .Values.hooks.jobs }}
{{- /* Hooks of rollouts. */}}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, create]
{{- end }}
{{- with .Values.secrets }}
- apiGroups: [""]
  resources: [secrets]
  resourceNames:
    {{- toYaml . | nindent 4 }}
  verbs: [get]
{{- end }}
{{- end }}
