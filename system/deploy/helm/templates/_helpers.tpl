{{- define "pipeline.name" -}}
{{- printf "%s-%s" .root.Release.Name .name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pipeline.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "pipeline.labels" -}}
{{ include "pipeline.selector" . }}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "pipeline.image" -}}
{{- $image := .root.Values.image -}}
{{- if $image.registry }}{{ $image.registry }}/{{ end }}{{ $image.prefix }}/{{ .name }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* One service: a deployment, its service, its autoscaler and its disruption budget.
     Takes root, name, config, ports (name to number), probePort (name) and env (list). */}}
{{- define "pipeline.service" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "pipeline.name" . }}
  labels: {{- include "pipeline.labels" . | nindent 4 }}
spec:
  {{- if not .config.autoscaling.enabled }}
  replicas: {{ .config.replicas }}
  {{- end }}
  # A new pod is ready before an old one goes, so no request finds nobody.
  strategy: { type: RollingUpdate, rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  selector:
    matchLabels: {{- include "pipeline.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "pipeline.labels" . | nindent 8 }}
      {{- if .root.Values.prometheusScrape }}
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/path: /metrics
        prometheus.io/port: {{ get .ports .probePort | quote }}
      {{- end }}
    spec:
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      automountServiceAccountToken: false
      securityContext: {{- toYaml .root.Values.podSecurityContext | nindent 8 }}
      # The time to be taken out of the endpoints, the drain, and some room.
      terminationGracePeriodSeconds: {{ add .config.shutdownSeconds 10 }}
      containers:
        - name: {{ .name }}
          image: {{ include "pipeline.image" . }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          securityContext: {{- toYaml .root.Values.containerSecurityContext | nindent 12 }}
          env:
            - { name: RUST_LOG, value: {{ .root.Values.logLevel | quote }} }
            - { name: LOG_FORMAT, value: {{ .root.Values.logFormat | quote }} }
            - { name: SHUTDOWN_DEADLINE_S, value: {{ .config.shutdownSeconds | quote }} }
            {{- with .root.Values.otlpEndpoint }}
            - { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
            {{- end }}
            {{- range .env }}
            {{- if .value }}
            - { name: {{ .name }}, value: {{ .value | toString | quote }} }
            {{- else if .valueFrom }}
            - name: {{ .name }}
              valueFrom: {{- toYaml .valueFrom | nindent 16 }}
            {{- end }}
            {{- end }}
          ports:
            {{- range $name, $port := .ports }}
            - { name: {{ $name }}, containerPort: {{ $port }} }
            {{- end }}
          startupProbe:
            httpGet: { path: /health, port: {{ .probePort }} }
            periodSeconds: 1
            failureThreshold: 60
          livenessProbe:
            httpGet: { path: /health, port: {{ .probePort }} }
            periodSeconds: 10
            timeoutSeconds: 3
          readinessProbe:
            httpGet: { path: /ready, port: {{ .probePort }} }
            periodSeconds: 5
            timeoutSeconds: 3
          lifecycle:
            # Endpoints are updated while this waits; requests that still come are answered.
            preStop: { sleep: { seconds: 3 } }
          resources: {{- toYaml .config.resources | nindent 12 }}
          {{- with .mounts }}
          volumeMounts: {{- toYaml . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "pipeline.selector" . | nindent 14 }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "pipeline.name" . }}
  labels: {{- include "pipeline.labels" . | nindent 4 }}
  {{- with (.config.service | default dict).annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ (.config.service | default dict).type | default "ClusterIP" }}
  selector: {{- include "pipeline.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - { name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }} }
    {{- end }}
{{- if .config.autoscaling.enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "pipeline.name" . }}
  labels: {{- include "pipeline.labels" . | nindent 4 }}
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: {{ include "pipeline.name" . }} }
  minReplicas: {{ .config.autoscaling.minReplicas }}
  maxReplicas: {{ .config.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: { type: Utilization, averageUtilization: {{ .config.autoscaling.targetCPU }} }
{{- end }}
{{- if .config.disruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "pipeline.name" . }}
  labels: {{- include "pipeline.labels" . | nindent 4 }}
spec:
  minAvailable: {{ .config.disruptionBudget.minAvailable }}
  selector:
    matchLabels: {{- include "pipeline.selector" . | nindent 6 }}
{{- end }}
{{- end -}}
