{{/* Files of the signer's ConfigMap. Takes $. */}}
{{- define "byok.signerConfig" -}}
{{- $settings := include "byok.signerSettings" . | fromYaml -}}
config.yaml: |
  {{- merge (dict "replicas" (int .Values.signer.replicas)) $settings .Values.signer.settings | toYaml | nindent 2 }}
{{- include "byok.ownershipFile" . }}
{{- end }}

{{/*
Changes with whatever a running signer must be started anew for: not with the number of replicas, which it goes by only
until it has counted them. Takes $.
*/}}
{{- define "byok.signerChecksum" -}}
{{- $settings := merge (include "byok.signerSettings" . | fromYaml) .Values.signer.settings -}}
{{- printf "%s%s" (toYaml $settings) (include "byok.ownershipFile" .) | sha256sum -}}
{{- end }}

{{- define "byok.signerSettings" -}}
{{ include "byok.installationSettings" . }}
kubernetes: in-cluster
tls-cert-file: /var/run/byok-signer/tls.crt
tls-key-file: /var/run/byok-signer/tls.key
replicas-service: {{ include "byok.signerHost" . | quote }}
drain-seconds: {{ .Values.signer.drainSeconds }}
audit: {{ ternary "/var/lib/byok/audit/audit.jsonl" "stdout" (eq (include "byok.persistent" .) "true") }}
{{- with .Values.audit.checkpoint.keyArn }}
checkpoint-key: {{ . | quote }}
checkpoint-minutes: {{ $.Values.audit.checkpoint.minutes }}
{{- end }}
quota-per-second: {{ .Values.aws.quotaPerSecond }}
aws-use-fips: {{ .Values.aws.fips }}
aws-use-dualstack: {{ .Values.aws.dualstack }}
{{- if .Values.sandbox.enabled }}
aws-endpoint: {{ include "byok.sandboxEndpoint" . | quote }}
aws-ca-file: /var/run/byok-sandbox/ca.crt
{{- else }}
{{- with .Values.aws.endpoint }}
aws-endpoint: {{ . | quote }}
{{- end }}
{{- if .Values.aws.caConfigMap.name }}
aws-ca-file: /etc/byok-aws/ca.crt
{{- end }}
{{- end }}
{{- with .Values.aws.keyEndpoints }}
aws-key-endpoints: {{ join "," . | quote }}
{{- end }}
log-level: {{ .Values.signer.logLevel }}
{{- end }}
