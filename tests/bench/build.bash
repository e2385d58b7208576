# Builds what tests/bench/run and tests/attack/run measure, and what they measure with. Sourced.
#
# Three builds, since they have little in common:
# - the service, as it is released: the program of the image (minutes on a small machine);
# - the bare programs it is compared with, a package of their own (tests/bench/bare);
# - the tools: optimised enough not to be what is measured, without the minutes that link-time
#   optimisation takes.
# Everything but the first is put under target/. The paths of the three are given by SERVICE, BARE and TOOLS.

TARGET=${CARGO_TARGET_DIR:-target}
export BARE="$TARGET/bare/release/bare"
export TOOLS="$TARGET/tools/examples"

build() {
    local profile=(--profile tools
        --config 'profile.tools.inherits="dev"'
        --config 'profile.tools.opt-level=2'
        --config 'profile.tools.debug=false')
    local cargo=(nice cargo build --locked --quiet)
    SERVICE=$(tests/image/program)
    export SERVICE
    "${cargo[@]}" --release --manifest-path tests/bench/bare/Cargo.toml --target-dir "$TARGET/bare"
    "${cargo[@]}" "${profile[@]}" --example bench-cluster --example "$1"
}
