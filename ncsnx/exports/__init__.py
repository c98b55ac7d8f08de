"""Exported models: folders that need neither run nor data, here or on the Hugging Face Hub."""
