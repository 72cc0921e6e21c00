"""The bundled model files; installed as the package ovseg_cli.bundled."""
