#!/bin/sh
# Run a step of a build that needs the network: `with-certificates COMMAND...`. Where the build is given a secret called
# `certificates`, a bundle of CA certificates, that is what pip, uv and Python trust in this step. Nothing of it stays.
set -eu
bundle=/run/secrets/certificates
if [ -s "$bundle" ]; then
  export SSL_CERT_FILE="$bundle" PIP_CERT="$bundle"
fi
exec "$@"
