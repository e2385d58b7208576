# shellcheck shell=bash
# The images: the demo app (tests/image/demo) and the pause program, each a static program alone in an
# image, which tests/image/archive packs without an image builder; kept in the cache by what they are
# made of.

demo_image=config-controller-demo:1
pause_image=config-controller-pause:1

# Sets `images` to the folder that holds demo.tar and pause.tar.
build_images() {
    local new made_of=("$here"/pause/main.go "$here"/images.bash "$here"/../demo/* "$here"/../image/{archive,demo,toolchain})
    images=$cache/images-$({ cat "${made_of[@]}"; rustc -vV; } | sha256sum | cut -c1-16)
    [[ ! -d $images ]] || return 0
    check_go
    say "Building the images $demo_image and $pause_image"
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/images.XXXXXX")
    CARGO_TARGET_DIR=$new/target "$here/../image/demo" "$demo_image" >"$new/log" 2>&1 ||
        fail "Cargo could not build the program of the image $demo_image: $(tail -1 "$new/log")"
    mv "$new"/target/image/demo-*.tar "$new/demo.tar"
    (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$new/pause" ./pause) ||
        fail "Go could not build the program of the image $pause_image."
    pack_image "$new/pause" "$pause_image" "$new/pause.tar"
    rm -r "$new"/{log,pause,target}
    # Another `up` may have been faster: what it made is the same.
    mv -T "$new" "$images" 2>/dev/null || rm -rf "$new"
}

# pack_image FILE NAME ARCHIVE: a static program of this machine's architecture as an image. Its user is
# a number other than root's, so that pods of a restricted namespace may use it.
pack_image() {
    "$here/../image/archive" "$3" "$2" "$(cd / && go env GOARCH)" "$1" \
        <<<"{\"User\":\"65532:65532\",\"Entrypoint\":[\"/$(basename "$1")\"]}"
}

import_images() {
    local program
    for program in demo pause; do import_image "$images/$program.tar"; done
}

# import_image ARCHIVE: into the containerd of a node that runs.
import_image() {
    in_node ctr -n k8s.io images import "$1" >>"$folder/log/images" 2>&1 9>&- ||
        fail "containerd did not take the image $1: $(tail -1 "$folder/log/images")"
}
