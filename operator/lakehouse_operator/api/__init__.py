"""What can be said: frozen types of the three kinds. The CRDs and the reference page are generated from them.

The docstring under a field is its description, everywhere: in the CRD, in `kubectl explain` and on the reference page.
"""

GROUP = "lakehouse.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
