"""Exported models on the Hugging Face Hub."""
