"""Facts about the fields of the configuration, from their declarations: for `show`, completion and the pages."""
