"""What both services have in common, whatever they do: settings, logs, the HTTP door, the Kubernetes API."""
