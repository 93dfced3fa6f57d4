#!/usr/bin/env bash
# The main job on a synthetic archive, step by step, as you would give the commands for your own photos.
# The first half of the sequences is enrolled with the true names, as a catalogue; the second half is identified.
set -euo pipefail
out=${1:-demo}

step() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

rm -rf "$out"
step pusa synth "$out/archive"
step pusa process "$out/archive/photos" --out "$out/run" --deployments "$out/archive/deployments.csv"
step pusa gallery enroll "$out/run" --gallery "$out/gallery" --individuals "$out/archive/truth/instances.json" --until DATE
step pusa identify "$out/run" --gallery "$out/gallery"
step pusa report "$out/run" --gallery "$out/gallery"
step pusa evaluate run "$out/run" --truth "$out/archive/truth/instances.json"
printf '\nOpen %s/run/report.html in a browser: every animal with its pattern and its five nearest candidates.\n' "$out"
