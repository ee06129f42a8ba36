{{/* One installation to a cluster: names are fixed, because roles, policies and certificates go by them. */}}

{{/* Labels of everything but pods' selectors. Takes (list $ COMPONENT). */}}
{{- define "byok.labels" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{ include "byok.selectorLabels" . }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/part-of: byok-operator
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
Labels of pods, a component's own before everybody's; without what changes with the chart alone and would start all pods
anew. Takes (list $ COMPONENT).
*/}}
{{- define "byok.podLabels" -}}
{{ include "byok.selectorLabels" . }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/part-of: byok-operator
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
{{- with merge dict (get (index . 0).Values (index . 1) | dig "podLabels" dict) (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What Services, policies and budgets select pods by; never changes. Takes (list $ COMPONENT). */}}
{{- define "byok.selectorLabels" -}}
app.kubernetes.io/name: byok-{{ index . 1 }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
{{- end }}

{{/* Reference of an image. Takes (list $ {repository, digest}). */}}
{{- define "byok.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $shared := $root.Values.image -}}
{{- $name := $image.repository -}}
{{- if $shared.registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $shared.registry) $name -}}
{{- end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $shared.tag) -}}
{{- end -}}
{{- end }}

{{/* The settings that signer and operator must both be given, as YAML. Takes $. */}}
{{- define "byok.installationSettings" -}}
installation: {{ default .Release.Name .Values.installation | quote }}
presets-namespace: {{ .Release.Namespace | quote }}
{{- with .Values.managedKey.name }}
managed-key: {{ printf "%s/%s" (include "byok.managedKeyNamespace" $) . | quote }}
{{- end }}
{{- with .Values.acknowledgement.terms }}
required-terms: {{ . | quote }}
{{- end }}
{{- with .Values.acknowledgement.termsSHA256 }}
{{- $_ := required "acknowledgement.terms: name the terms, as acknowledgement.termsSHA256 is set" $.Values.acknowledgement.terms }}
required-terms-sha256: {{ . | quote }}
{{- end }}
{{- if .Values.keyOwnership.enabled }}
key-ownership: /etc/byok/key-ownership.yaml
{{- end }}
require-external-id: {{ .Values.aws.requireExternalId }}
{{- with .Values.aws.role }}
aws-role: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "byok.managedKeyNamespace" -}}
{{- default .Release.Namespace .Values.managedKey.namespace -}}
{{- end }}

{{/* Where clients and the operator find the signers. Takes $. */}}
{{- define "byok.signerHost" -}}
byok-signer.{{ .Release.Namespace }}.svc
{{- end }}

{{/* Names in the signers' certificate, as a YAML list. Takes $. */}}
{{- define "byok.signerNames" -}}
- byok-signer
- byok-signer.{{ .Release.Namespace }}
- byok-signer.{{ .Release.Namespace }}.svc
- byok-signer.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The Secret with the signers' certificate: for each mode its own, since each has another owner. Takes $. */}}
{{- define "byok.tlsSecret" -}}
{{- if eq .Values.tls.mode "existingSecret" -}}
{{- required "tls.existingSecret: name the Secret, as tls.mode is existingSecret" .Values.tls.existingSecret -}}
{{- else if eq .Values.tls.mode "certManager" -}}
byok-signer-cert-manager
{{- else -}}
byok-signer-tls
{{- end -}}
{{- end }}

{{/* Manifests of all presets, shipped and own, by file name, as YAML. Takes $. */}}
{{- define "byok.presetFiles" -}}
{{- $files := dict -}}
{{- if .Values.presets.shipped -}}
{{- range $path, $content := .Files.Glob "presets/*.yaml" -}}
{{- $_ := set $files (base $path) (toString $content) -}}
{{- end -}}
{{- end -}}
{{- range $name, $spec := .Values.presets.extra -}}
{{- $file := printf "%s.yaml" $name -}}
{{- if hasKey $files $file -}}
{{- fail (printf "presets.extra.%s: the chart ships a preset of that name; take another, or set presets.shipped to false" $name) -}}
{{- end -}}
{{- $recipe := dict "apiVersion" "byok.dev/v1alpha1" "kind" "SigningRecipe" "metadata" (dict "name" $name) "spec" $spec -}}
{{- $_ := set $files $file (toYaml $recipe) -}}
{{- end -}}
{{- toYaml $files -}}
{{- end }}

{{/* Names of all presets, in YAML's flow style and in CEL alike: ['a', 'b']. Takes $. */}}
{{- define "byok.presetNames" -}}
{{- $names := list -}}
{{- range $file, $_ := include "byok.presetFiles" . | fromYaml -}}
{{- $names = append $names (trimSuffix ".yaml" $file | squote) -}}
{{- end -}}
{{- printf "[%s]" (join ", " $names) -}}
{{- end }}

{{/* consumerNamespaces as a mapping, YAML. Takes $. */}}
{{- define "byok.consumers" -}}
{{- $consumers := dict -}}
{{- range .Values.consumerNamespaces -}}
{{- if hasKey $consumers .namespace -}}
{{- fail (printf "consumerNamespaces: %s is listed twice; put its ServiceAccounts into one entry" .namespace) -}}
{{- end -}}
{{- $_ := set $consumers .namespace .serviceAccounts -}}
{{- end -}}
{{- toYaml $consumers -}}
{{- end }}

{{/* The same as a map of CEL: {'media': ['job']}. The API server takes 100,000 characters. Takes $. */}}
{{- define "byok.consumersInCel" -}}
{{- $entries := list -}}
{{- range $namespace, $accounts := include "byok.consumers" . | fromYaml -}}
{{- $quoted := list -}}
{{- range $accounts -}}
{{- $quoted = append $quoted (squote .) -}}
{{- end -}}
{{- $entries = append $entries (printf "%s: [%s]" (squote $namespace) (join ", " $quoted)) -}}
{{- end -}}
{{- $expression := printf "{%s}" (join ", " $entries) -}}
{{- if gt (len $expression) 95000 -}}
{{- fail (printf "consumerNamespaces: their names come to %d characters as the admission policy lists them, of which 95000 are allowed, since the API server takes no longer expressions; list fewer namespaces or ServiceAccounts" (len $expression)) -}}
{{- end -}}
{{- $expression -}}
{{- end }}

{{/* Whether the audit trail lives on volumes: "true" or "". Takes $. */}}
{{- define "byok.persistent" -}}
{{- if eq .Values.audit.mode "persistent" -}}true{{- end -}}
{{- end }}

{{/* Kind of the signer's workload. Takes $. */}}
{{- define "byok.signerKind" -}}
{{ ternary "StatefulSet" "Deployment" (eq (include "byok.persistent" .) "true") }}
{{- end }}

{{/* Port of the proxy, where there is one. Takes $. */}}
{{- define "byok.proxyPort" -}}
{{- $url := urlParse .Values.proxy.https -}}
{{- $url.host | regexFind ":[0-9]+$" | trimPrefix ":" | default (eq $url.scheme "http" | ternary "80" "443") -}}
{{- end }}

{{/* Ports of a NetworkPolicy. Takes a list of port numbers. */}}
{{- define "byok.tcpPorts" -}}
{{- range . }}
- port: {{ int . }}
  protocol: TCP
{{- end }}
{{- end }}

{{/* Peers from CIDRs; nothing for none, which means any. Takes a list of CIDRs. */}}
{{- define "byok.cidrPeers" -}}
{{- range . }}
- ipBlock:
    cidr: {{ . | quote }}
{{- end }}
{{- end }}
