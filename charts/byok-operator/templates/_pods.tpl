{{/* Pod Security Standards, "Restricted": the pod's half. */}}
{{- define "byok.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The container's half. */}}
{{- define "byok.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop:
    - ALL
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What every pod has in common. Takes (list $ SETTINGS), those of the component. */}}
{{- define "byok.podCommon" -}}
{{- $root := index . 0 -}}
{{- $own := index . 1 -}}
# A mounted token takes its place where one is needed: it is renewed, bound to the pod and for one audience.
automountServiceAccountToken: false
# A Service's variables would look like settings.
enableServiceLinks: false
securityContext:
  {{- include "byok.podSecurity" $root | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Spreads a component's pods, each roll-out's by themselves, over zones and nodes. Takes (list $ COMPONENT KIND). */}}
{{- define "byok.spread" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $revision := ternary "controller-revision-hash" "pod-template-hash" (eq (index . 2) "StatefulSet") -}}
{{- range (get $root.Values $component).topologySpread }}
- topologyKey: {{ .topologyKey | quote }}
  maxSkew: {{ int .maxSkew }}
  whenUnsatisfiable: {{ .whenUnsatisfiable }}
  matchLabelKeys: [{{ $revision }}]
  labelSelector:
    matchLabels:
      {{- include "byok.selectorLabels" (list $root $component) | nindent 6 }}
{{- end }}
{{- end }}

{{/*
Probes look at the process only, never at what a customer's key, KMS or the API server does. Startup is given two
minutes; a process that is alive and not ready is left alone.
*/}}
{{- define "byok.probes" -}}
startupProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet:
    path: /livez
    port: http
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet:
    path: /readyz
    port: http
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* What a client in a pod uses for the API server, where every library looks for it. */}}
{{- define "byok.apiTokenVolume" -}}
- name: api-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}

{{- define "byok.apiTokenMount" -}}
- name: api-token
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}

{{/* The token that the signer takes, renewed by the kubelet. */}}
{{- define "byok.signerTokenVolume" -}}
- name: signer-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          audience: byok-signer
          expirationSeconds: 3600
{{- end }}

{{/* Who signs the signers' certificate: of their Secret the CA only, never the key. Takes (list $ OPTIONAL). */}}
{{- define "byok.signerCaVolume" -}}
- name: signer-ca
  secret:
    secretName: {{ include "byok.tlsSecret" (index . 0) | quote }}
    optional: {{ index . 1 }}
    defaultMode: 0440
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}

{{/* Variables for proxies. Takes $. */}}
{{- define "byok.proxyEnv" -}}
{{- with .Values.proxy.https }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
- name: NO_PROXY
  value: {{ concat (list "localhost" "127.0.0.1" "169.254.169.254" "169.254.170.23" "$(KUBERNETES_SERVICE_HOST)" ".svc" (printf ".svc.%s" $.Values.clusterDomain)) $.Values.proxy.noProxy | join "," | quote }}
{{- end }}
{{- end }}
