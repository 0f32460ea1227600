"""The Kubernetes edge: the only place that imports kopf or kubernetes."""
