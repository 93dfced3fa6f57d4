#!/usr/bin/env bash
# The main job on a synthetic archive, step by step, as you would give the commands for your own photos.
# The first five of ten sequences (2019 and 2020) are enrolled with the true names; the others (2021, 2022) are identified.
set -euo pipefail
out=${1:-demo}

step() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

rm -rf "$out"
step pusa synth "$out/archive"
step pusa process "$out/archive/photos" --out "$out/run" --deployments "$out/archive/deployments.csv"
step pusa gallery enroll "$out/run" --gallery "$out/gallery" --individuals "$out/archive/truth/instances.json" --until 2020-12-31
step pusa identify "$out/run" --gallery "$out/gallery"
step pusa report "$out/run" --gallery "$out/gallery"
step pusa evaluate run "$out/run" --truth "$out/archive/truth/instances.json" --gallery "$out/gallery"
printf '\nOpen %s/run/report.html in a browser: every animal with its pattern and its five nearest candidates.\n' "$out"
