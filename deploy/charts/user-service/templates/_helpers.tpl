{{/* Labels of every object. */}}
{{- define "user-service.labels" -}}
app.kubernetes.io/name: {{ .Values.names.service }}
app.kubernetes.io/part-of: user-service
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An arm's selector, which can never change. Takes the root and the track. */}}
{{- define "user-service.selector" -}}
app.kubernetes.io/name: {{ .root.Values.names.service }}
serin.dev/track: {{ .track }}
{{- end }}

{{/* An image's reference. */}}
{{- define "user-service.image" -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ required "the image's tag is missing" .tag }}
{{- end }}
{{- end }}

{{/* The annotations of the apex Service. */}}
{{- define "user-service.serviceAnnotations" -}}
{{- $annotations := dict }}
{{- with .Values.mesh.retry }}
{{- if .grpc }}
{{- $_ := set $annotations "retry.linkerd.io/grpc" .grpc }}
{{- $_ := set $annotations "retry.linkerd.io/limit" (.limit | toString) }}
{{- with .timeout }}
{{- $_ := set $annotations "retry.linkerd.io/timeout" . }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $time := .Values.mesh.timeout }}
{{- with $time }}
{{- $_ := set $annotations (printf "timeout.linkerd.io/%s" $name) . }}
{{- end }}
{{- end }}
{{- with .Values.mesh.circuitBreaking }}
{{- if .enabled }}
{{- $_ := set $annotations "balancer.linkerd.io/failure-accrual" "consecutive" }}
{{- $_ := set $annotations "balancer.linkerd.io/failure-accrual-consecutive-max-failures" (.maxFailures | toString) }}
{{- $_ := set $annotations "balancer.linkerd.io/failure-accrual-consecutive-min-penalty" .minPenalty }}
{{- $_ := set $annotations "balancer.linkerd.io/failure-accrual-consecutive-max-penalty" .maxPenalty }}
{{- end }}
{{- end }}
{{- with merge (deepCopy .Values.serviceAnnotations) $annotations }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The security of every container. */}}
{{- define "user-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* The security of every pod. */}}
{{- define "user-service.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/*
The Deployment of one arm. Takes root, track (stable or canary), name, arm (the arm's subtree) and replicas; without
replicas, the manifest does not own the number, and whoever scales the Deployment keeps it.
*/}}
{{- define "user-service.deployment" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "user-service.labels" .root | nindent 4 }}
    serin.dev/track: {{ .track }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  revisionHistoryLimit: 5
  progressDeadlineSeconds: {{ $values.progressDeadlineSeconds }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "user-service.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "user-service.selector" . | nindent 8 }}
      annotations:
        linkerd.io/inject: enabled
        serin.dev/revision: {{ required (printf "%s.revision is missing" .track) .arm.revision | quote }}
        {{- /* All of the arm's subtree is part of the revision: a change of configuration alone replaces the pods. */}}
        checksum/config: {{ omit .arm "image" "revision" | toYaml | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      # Its identity in the mesh; it asks the API server for nothing.
      serviceAccountName: {{ $values.names.service }}
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
      securityContext:
        {{- include "user-service.podSecurity" .root | nindent 8 }}
      {{- with $values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $values.topologySpread.enabled }}
      {{- $arm := . }}
      topologySpreadConstraints:
        {{- range $values.topologySpread.keys }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "user-service.selector" $arm | nindent 14 }}
          # Each revision by itself: the pods that a rollout replaces don't count.
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- end }}
      containers:
        - name: user-service
          image: {{ include "user-service.image" .arm.image | quote }}
          ports:
            - name: grpc
              containerPort: {{ $values.ports.grpc }}
              protocol: TCP
            - name: http
              containerPort: {{ $values.ports.http }}
              protocol: TCP
          env:
            - name: GRPC_PORT
              value: {{ $values.ports.grpc | quote }}
            - name: HTTP_PORT
              value: {{ $values.ports.http | quote }}
            - name: SERVICE_VERSION
              value: {{ .arm.image.tag | quote }}
            - name: SERVICE_REVISION
              value: {{ .arm.revision | quote }}
            {{- with $values.database }}
            - name: DATABASE_URL
              {{- if .secret.name }}
              valueFrom:
                secretKeyRef:
                  name: {{ .secret.name }}
                  key: {{ .secret.key }}
              {{- else }}
              value: sqlite://{{ .folder }}/users.db
              {{- end }}
            - name: DATABASE_CONNECTIONS
              value: {{ .connections | quote }}
            {{- end }}
            - name: MAX_CONNECTION_AGE
              value: {{ $values.connections.maxAge | quote }}
            - name: MAX_CONNECTION_AGE_GRACE
              value: {{ $values.connections.maxAgeGrace | quote }}
            {{- if ne $values.metrics "full" }}
            - name: METRICS
              value: {{ $values.metrics }}
            {{- end }}
            {{- with $values.traces }}
            {{- if .endpoint }}
            - name: OTEL_EXPORTER_OTLP_ENDPOINT
              value: {{ .endpoint | quote }}
            - name: TRACE_RATIO
              value: {{ .ratio | quote }}
            {{- end }}
            {{- end }}
            {{- range $name, $from := $values.secretEnv }}
            - name: {{ $name }}
              valueFrom:
                secretKeyRef:
                  name: {{ $from.secret }}
                  key: {{ $from.key }}
            {{- end }}
            {{- range $name, $value := .arm.env }}
            - name: {{ $name }}
              value: {{ $value | toString | quote }}
            {{- end }}
          readinessProbe:
            httpGet:
              path: /ready
              port: http
            {{- toYaml $values.probes.readiness | nindent 12 }}
          livenessProbe:
            httpGet:
              path: /health
              port: http
            {{- toYaml $values.probes.liveness | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            {{- include "user-service.containerSecurity" .root | nindent 12 }}
          {{- if not $values.database.secret.name }}
          volumeMounts:
            - name: data
              mountPath: {{ $values.database.folder }}
      volumes:
        - name: data
          {{- with $values.database.hostPath }}
          hostPath:
            path: {{ . }}
            type: Directory
          {{- else }}
          emptyDir: {}
          {{- end }}
          {{- end }}
{{- end }}
