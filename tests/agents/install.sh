#!/bin/sh
# Install the agents of package.json into the folder FOLDER, about 1.4 GB: the tests
# find them with AGENTS_BIN=FOLDER/node_modules/.bin, or on PATH.
#
#     tests/agents/install.sh FOLDER
#
# No package runs a script of its own while it is installed.  The one that cannot
# do without says itself to run it by hand then: it links its native program.
set -eu
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
cp "$(dirname "$0")/package.json" "$folder"
cd "$folder"
npm install --ignore-scripts --no-audit --no-fund --no-package-lock
node node_modules/opencode-ai/postinstall.mjs
