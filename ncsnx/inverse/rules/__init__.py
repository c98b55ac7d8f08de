"""Rules by which samplers use a measurement, by name: see `ncsnx.inverse.rules.contract`."""
