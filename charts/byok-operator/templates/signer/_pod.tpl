{{/* The signer's pod, the same in a Deployment and in a StatefulSet. Takes $. */}}
{{- define "byok.signerPod" -}}
metadata:
  labels:
    {{- include "byok.podLabels" (list . "signer") | nindent 4 }}
  annotations:
    checksum/config: {{ include "byok.signerChecksum" . | quote }}
    {{- with .Values.signer.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: byok-signer
  {{- include "byok.podCommon" (list . .Values.signer) | nindent 2 }}
  {{- with .Values.signer.topologySpread }}
  topologySpreadConstraints:
    {{- include "byok.spread" (list $ "signer" (include "byok.signerKind" $)) | trim | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "byok.gracePeriod" . }}
  containers:
    - name: signer
      image: {{ include "byok.image" (list . .Values.signer.image) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [--config, /etc/byok/config.yaml]
      env:
        {{- include "byok.signerEnv" . | trim | nindent 8 }}
        {{- with .Values.signer.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: grpc
          containerPort: 8443
          protocol: TCP
        - name: http
          containerPort: 9090
          protocol: TCP
      {{- include "byok.probes" . | nindent 6 }}
      lifecycle:
        preStop:
          # Until every client and DNS server knows that this address is gone; then SIGTERM, and calls are let end.
          sleep:
            seconds: {{ int .Values.signer.preStopSeconds }}
      securityContext:
        {{- include "byok.containerSecurity" . | nindent 8 }}
      {{- with .Values.signer.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "byok.signerMounts" . | nindent 8 }}
        {{- with .Values.signer.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- include "byok.signerVolumes" . | nindent 4 }}
    {{- with .Values.signer.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/*
Waiting for clients to leave; then for calls under way; then up to 2.5 seconds for the last answers, a last checkpoint,
twenty for a disk that hangs (docs/platform.md, Drain), and some to spare: a signer that is killed leaves intents without
outcome.
*/}}
{{- define "byok.gracePeriod" -}}
{{- add (int .Values.signer.preStopSeconds) (ceil .Values.signer.drainSeconds) 35 -}}
{{- end }}

{{- define "byok.signerEnv" -}}
# The audit trail's first record names it.
- name: BYOK_SIGNER_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{ include "byok.proxyEnv" . }}
{{- if .Values.sandbox.enabled }}
- name: AWS_SHARED_CREDENTIALS_FILE
  value: /var/run/byok-sandbox/credentials
{{- end }}
{{- end }}

{{- define "byok.signerMounts" -}}
- name: config
  mountPath: /etc/byok
  readOnly: true
- name: tls
  mountPath: /var/run/byok-signer
  readOnly: true
{{ include "byok.apiTokenMount" . }}
{{- if include "byok.persistent" . }}
- name: audit
  mountPath: /var/lib/byok/audit
{{- end }}
{{- if .Values.sandbox.enabled }}
- name: sandbox
  mountPath: /var/run/byok-sandbox
  readOnly: true
{{- else if .Values.aws.caConfigMap.name }}
- name: aws-ca
  mountPath: /etc/byok-aws
  readOnly: true
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "byok.signerVolumes" -}}
- name: config
  configMap:
    name: byok-signer-config
# Naming the files makes the kubelet hold the pod back until the Secret has them.
- name: tls
  secret:
    secretName: {{ include "byok.tlsSecret" . | quote }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{ include "byok.apiTokenVolume" . }}
{{- if .Values.sandbox.enabled }}
- name: sandbox
  secret:
    secretName: byok-sandbox
    defaultMode: 0440
    items:
      - key: ca.crt
        path: ca.crt
      - key: credentials
        path: credentials
{{- else if .Values.aws.caConfigMap.name }}
- name: aws-ca
  configMap:
    name: {{ .Values.aws.caConfigMap.name | quote }}
    items:
      - key: {{ .Values.aws.caConfigMap.key | quote }}
        path: ca.crt
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}
