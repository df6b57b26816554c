"""Specs and studies: YAML files, read strictly, and the plan of trials that they ask for."""
