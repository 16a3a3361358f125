{{- define "synthward.labels" -}}
app.kubernetes.io/name: synthward-coordinator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "synthward.image" -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end }}

{{- define "synthward.claim" -}}
{{ default (printf "%s-home" .Release.Name) .Values.persistence.existingClaim }}
{{- end }}

{{- define "synthward.container-security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "synthward.store-environment" -}}
{{- with .Values.stores.existingSecret }}
- name: SYNTHWARD_COORDINATOR_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: database-url}
- name: SYNTHWARD_COORDINATOR_OBJECTS_URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: objects-url}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: aws-access-key-id, optional: true}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: aws-secret-access-key, optional: true}
- name: AWS_ENDPOINT_URL
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: aws-endpoint-url, optional: true}
{{- end }}
{{- end }}
