{{- define "evergreen.labels" -}}
app.kubernetes.io/name: evergreen
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Of one component: call with (list . "registry"). */}}
{{- define "evergreen.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "evergreen.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "evergreen.homeClaim" -}}
{{ .Values.home.existingClaim | default (printf "%s-home" .Release.Name) }}
{{- end }}

{{/* What every pod says about itself. Without links, as they would be variables named EVERGREEN_…. */}}
{{- define "evergreen.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "evergreen.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* Of the image `evergreen`: settings, secrets, home and log. */}}
{{- define "evergreen.environment" -}}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}-environment}
volumeMounts:
  - {name: settings, mountPath: /etc/evergreen/settings, readOnly: true}
  - {name: secrets, mountPath: /etc/evergreen/secrets, readOnly: true}
  - {name: home, mountPath: /var/lib/evergreen}
  - {name: log, mountPath: /data, readOnly: true}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "evergreen.volumes" -}}
volumes:
  - {name: settings, configMap: {name: {{ .Release.Name }}-settings}}
  - {name: secrets, secret: {secretName: {{ .Values.existingSecret }}, defaultMode: 0440}}
  - {name: home, persistentVolumeClaim: {claimName: {{ include "evergreen.homeClaim" . }}}}
  - {name: log, persistentVolumeClaim: {claimName: {{ .Values.log.existingClaim }}, readOnly: true}}
  - {name: tmp, emptyDir: {}}
{{- end }}

{{/* Probes of an HTTP service: call with (dict "path" "/healthz" "port" 8090). */}}
{{- define "evergreen.probes" -}}
startupProbe: # two minutes: the catalog may have to be migrated
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 3
  failureThreshold: 40
readinessProbe:
  httpGet: {path: {{ .path }}, port: {{ .port }}}
  periodSeconds: 5
  timeoutSeconds: 3
livenessProbe: # of the process alone: a database that is away is no reason to restart
  tcpSocket: {port: {{ .port }}}
  periodSeconds: 20
{{- end }}
