{{/* Files of the operator's ConfigMap. Takes $. */}}
{{- define "byok.operatorConfig" -}}
{{- $settings := include "byok.operatorSettings" . | fromYaml -}}
config.yaml: |
  {{- merge $settings .Values.operator.settings | toYaml | nindent 2 }}
{{- include "byok.ownershipFile" . }}
{{- with .Values.managedKey.spec }}
managed-key.yaml: |
  {{- include "byok.managedKey" $ | nindent 2 }}
{{- end }}
{{- if .Values.consumerNamespaces }}
consumers.yaml: |
  {{- include "byok.consumers" . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "byok.operatorSettings" -}}
{{ include "byok.installationSettings" . }}
namespace: {{ .Release.Namespace | quote }}
signers: {{ printf "%s:8443" (include "byok.signerHost" .) | quote }}
signer-token-file: /var/run/secrets/byok-signer/token
signer-ca-file: /var/run/byok-signer/ca.crt
signer-tls: {{ ternary "self-managed" "external" (eq .Values.tls.mode "selfManaged") }}
{{- if eq .Values.tls.mode "selfManaged" }}
signer-tls-names:
  {{- include "byok.signerNames" . | nindent 2 }}
{{- end }}
{{- if .Values.consumerNamespaces }}
consumers: /etc/byok/consumers.yaml
{{- end }}
{{- if ne (include "byok.presetNames" .) "[]" }}
presets: /etc/byok-presets
{{- end }}
{{- if .Values.managedKey.spec }}
managed-key-file: /etc/byok/managed-key.yaml
{{- end }}
log-level: {{ .Values.operator.logLevel }}
{{- end }}

{{- define "byok.ownershipFile" -}}
{{- if .Values.keyOwnership.enabled }}
key-ownership.yaml: |
  {{- toYaml .Values.keyOwnership.namespaces | nindent 2 }}
{{- end }}
{{- end }}

{{- define "byok.managedKey" -}}
{{- if ne (include "byok.managedKeyNamespace" .) .Release.Namespace -}}
{{- fail (printf "managedKey.spec: the operator writes a key only in its own namespace, %s, and managedKey.namespace is %s; leave one of the two out" .Release.Namespace .Values.managedKey.namespace) -}}
{{- end -}}
apiVersion: byok.dev/v1alpha1
kind: ByokKey
metadata:
  name: {{ required "managedKey.name: needed, as managedKey.spec is set" .Values.managedKey.name | quote }}
spec:
  {{- toYaml .Values.managedKey.spec | nindent 2 }}
{{- end }}
