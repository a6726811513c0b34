{{- define "lakehouse-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "lakehouse-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "lakehouse-operator.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- $full | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "lakehouse-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "lakehouse-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: set serviceAccount.name to the one that the operator should use" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "lakehouse-operator.image" -}}
{{- with .Values.image }}
{{- .digest | empty | ternary (printf "%s:%s" .repository (default $.Chart.AppVersion .tag)) (printf "%s@%s" .repository .digest) }}
{{- end }}
{{- end }}

{{- define "lakehouse-operator.selector" -}}
app.kubernetes.io/name: {{ include "lakehouse-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of everything but pods that the Service and the Deployment must not select. */}}
{{- define "lakehouse-operator.labels" -}}
app.kubernetes.io/name: {{ include "lakehouse-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lakehouse
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The namespaces that jobs run in, as far as this release knows them, as a JSON list. */}}
{{- define "lakehouse-operator.jobNamespaces" -}}
{{- default .Values.watchNamespaces .Values.jobs.namespaces | uniq | toJson }}
{{- end }}

{{/* A container that runs `lakehouse operator COMMAND` for the namespaces of this release. Takes {root, command, args}. */}}
{{- define "lakehouse-operator.commandContainer" -}}
image: {{ include "lakehouse-operator.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python, -m, lakehouse_operator.cli, operator, {{ .command }}]
args:
  - --operator-namespace={{ .root.Release.Namespace }}
  {{- range uniq .root.Values.watchNamespaces }}
  - --namespace={{ . }}
  {{- end }}
  {{- range .args }}
  - {{ . | quote }}
  {{- end }}
securityContext: {{- toYaml .root.Values.securityContext | nindent 2 }}
resources:
  requests: {cpu: 50m, memory: 128Mi}
  limits: {memory: 512Mi}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* What is the same in every pod of the chart. */}}
{{- define "lakehouse-operator.pod" -}}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
{{- end }}
