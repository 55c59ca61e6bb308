"""The operator's verbs and how they are shown."""
