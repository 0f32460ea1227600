{{/* The chart's name, or what stands for it; a label. */}}
{{- define "inference-operator.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* What the names of all objects begin with. 42 characters leave 21 for what follows, as the names of Services end at 63. */}}
{{- define "inference-operator.fullname" -}}
{{- $name := include "inference-operator.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- .Values.fullnameOverride | default $full | trunc 42 | trimSuffix "-" }}
{{- end }}

{{/* What makes a pod one of this release's operators. Selectors cannot be changed later, so nothing may be added here. */}}
{{- define "inference-operator.selector" -}}
app.kubernetes.io/name: {{ include "inference-operator.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/*
The metadata of an object.
root: the context; name; component: what it is for; namespace: empty for one of the cluster; labels, annotations: its own.
The chart's own labels win over those of the user, because selectors and upgrades rely on them.
*/}}
{{- define "inference-operator.metadata" -}}
{{- $values := .root.Values }}
{{- $standard := dict
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")
  "app.kubernetes.io/name" (include "inference-operator.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
  "app.kubernetes.io/component" .component
  "app.kubernetes.io/managed-by" .root.Release.Service -}}
name: {{ .name | quote }}
{{- with .namespace }}
namespace: {{ . | quote }}
{{- end }}
labels:
  {{- mergeOverwrite (deepCopy $values.commonLabels) (deepCopy (.labels | default dict)) $standard | toYaml | nindent 2 }}
{{- with mergeOverwrite (deepCopy $values.commonAnnotations) (deepCopy (.annotations | default dict)) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "inference-operator.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}
{{- $image.repository }}@{{ $image.digest }}
{{- else }}
{{- $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "inference-operator.serviceAccountName" -}}
{{- $account := .Values.serviceAccount }}
{{- if and (not $account.create) (not $account.name) }}
{{- fail "serviceAccount.create is false, and no account is named; write its name in serviceAccount.name" }}
{{- end }}
{{- $account.name | default (include "inference-operator.fullname" .) }}
{{- end }}

{{/* How Secrets are read: as asked, else watched where the namespaces are listed and only got where they are not. */}}
{{- define "inference-operator.secrets" -}}
{{- .Values.secrets | default (empty .Values.scope.namespaces | ternary "get" "watch") }}
{{- end }}

{{/* Whether the roles view, edit and admin of the cluster include the resources: "true" or nothing. */}}
{{- define "inference-operator.aggregates" -}}
{{- $asked := toString .Values.rbac.aggregate }}
{{- if or (eq $asked "true") (and (eq $asked "auto") (empty .Values.scope.namespaces)) }}true{{ end }}
{{- end }}

{{/* Whether the operator may touch ConfigMaps where it works: "true" or nothing. */}}
{{- define "inference-operator.connects" -}}
{{- $asked := toString .Values.rbac.connections }}
{{- if or (eq $asked "true") (and (eq $asked "auto") .Values.scope.namespaces) }}true{{ end }}
{{- end }}

{{/*
One entry for each Deployment, JSON: shard, name, labelSelector, replicas, resources.
The default shard takes what carries the label of no other, so that every resource is in exactly one.
*/}}
{{- define "inference-operator.deployments" -}}
{{- $root := . }}
{{- $full := include "inference-operator.fullname" . }}
{{- $names := list }}
{{- $own := list }}
{{- $deployments := list }}
{{- range .Values.shards }}
  {{- if eq .name "default" }}
    {{- fail "shards: one is named default, as the shard for all the rest is; write another name" }}
  {{- end }}
  {{- if has .name $names }}
    {{- fail (printf "shards: two are named %s; give each a name of its own" .name) }}
  {{- end }}
  {{- $names = append $names .name }}
  {{- if .labelSelector }}{{ $own = append $own .name }}{{ end }}
  {{- $deployments = append $deployments (dict
    "shard" .name
    "name" (printf "%s-%s" $full .name)
    "labelSelector" (.labelSelector | default (printf "inference-operator.io/shard=%s" .name))
    "replicas" (kindIs "invalid" .replicas | ternary $root.Values.replicas .replicas)
    "resources" (.resources | default $root.Values.resources)) }}
{{- end }}
{{- with .Values.defaultShard }}
  {{- if .enabled }}
    {{- if and $own (not .labelSelector) }}
      {{- fail (printf "shards: %s has a labelSelector of its own, so the chart cannot know what is left for the default shard; write defaultShard.labelSelector, or defaultShard.enabled: false if nothing is left" (join ", " $own)) }}
    {{- end }}
    {{- $rest := empty $names | ternary "" (printf "inference-operator.io/shard notin (%s)" (join "," $names)) }}
    {{- $deployments = prepend $deployments (dict
      "shard" "default"
      "name" $full
      "labelSelector" (.labelSelector | default $rest)
      "replicas" $root.Values.replicas
      "resources" $root.Values.resources) }}
  {{- end }}
{{- end }}
{{- if not $deployments }}
  {{- fail "defaultShard.enabled is false and there are no shards, so nothing would run; name a shard in shards, or write defaultShard.enabled: true" }}
{{- end }}
{{- toJson $deployments }}
{{- end }}

{{/*
The settings that are given, as variables. A number is written as JSON does, never as 1e+06.
What the operator may do to one credential holds for all shards together, and each gets its part.
root: the context; parts: the number of Deployments.
*/}}
{{- define "inference-operator.settings" -}}
{{- $settings := deepCopy .root.Values.settings }}
{{- $timeout := $settings.requestTimeoutSeconds | default 30 }}
{{- $settle := $settings.settleSeconds | default 60 }}
{{- if lt (float64 $settle) (float64 $timeout) }}
  {{- fail (printf "settings.settleSeconds is %s and settings.requestTimeoutSeconds %s, so a write could land after it was judged lost; write settleSeconds: %s or more" (toJson $settle) (toJson $timeout) (toJson $timeout)) }}
{{- end }}
{{- if gt (int .parts) 1 }}
  {{- $parts := int .parts }}
  {{- $rollouts := kindIs "invalid" $settings.maxRollouts | ternary 25 $settings.maxRollouts | int }}
  {{- $_ := set $settings "callsPerSecond" (divf ($settings.callsPerSecond | default 5) $parts) }}
  {{- $_ := set $settings "callsBurst" (max 1 (div ($settings.callsBurst | default 20 | int) $parts)) }}
  {{- $_ := set $settings "maxRollouts" (eq $rollouts 0 | ternary 0 (max 1 (div $rollouts $parts))) }}
{{- end }}
{{- $decided := list "LEADER_ELECTION" "LEASE_NAMESPACE" "KUBECONFIG" "CONTEXT" }}
{{- $elsewhere := dict
  "NAMESPACES" "scope.namespaces"
  "LABEL_SELECTOR" "defaultShard.labelSelector, or that of a shard,"
  "SECRETS" "secrets"
  "HTTP_ADDRESS" "http.port and http.host"
  "CA_FILE" "caBundle.configMap"
  "PROXY_URL" "proxy.secret" }}
{{- range .root.Values.extraEnv }}
  {{- if hasPrefix "INFERENCE_OPERATOR_" .name }}
    {{- $setting := trimPrefix "INFERENCE_OPERATOR_" .name }}
    {{- if has $setting $decided }}
      {{- fail (printf "extraEnv: %s is decided by the chart, as there is one right way in a pod; leave it out" .name) }}
    {{- end }}
    {{- $value := get $elsewhere $setting | default (printf "settings.%s" ($setting | lower | camelcase | untitle)) }}
    {{- fail (printf "extraEnv: %s is a setting; write %s instead" .name $value) }}
  {{- end }}
{{- end }}
{{- range $name, $value := $settings }}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "map" $value) (empty $value))) }}
- name: INFERENCE_OPERATOR_{{ $name | snakecase | upper }}
  value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* All that the operator does in a namespace that it works in; the Lease apart. */}}
{{- define "inference-operator.rules" -}}
- apiGroups: [inference-operator.io]
  resources: [inferenceendpoints]
  verbs: [get, list, watch]
- apiGroups: [inference-operator.io]
  resources: [inferenceendpoints/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [secrets]
  verbs: {{ eq (include "inference-operator.secrets" .) "watch" | ternary "[get, list, watch]" "[get]" }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- if include "inference-operator.connects" . }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, create, patch]
{{- end }}
{{- end }}

{{/* The account that a binding binds. */}}
{{- define "inference-operator.subjects" -}}
- kind: ServiceAccount
  name: {{ include "inference-operator.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}
