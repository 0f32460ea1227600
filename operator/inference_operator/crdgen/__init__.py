"""From the models to the custom resource definition and its reference page."""
