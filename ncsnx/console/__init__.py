"""What a person sees: messages, tables, progress, the views of a training run. Imports no torch."""
