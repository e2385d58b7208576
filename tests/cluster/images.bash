# shellcheck shell=bash
# The images: the demo app and the pause program, each a static program alone in an image. Such an image
# is one layer in an archive with two small JSON files, so it is packed here, without an image builder;
# kept in the cache by what it is made of.

demo_image=config-controller-demo:1
pause_image=config-controller-pause:1

# Sets `images` to the folder that holds demo.tar and pause.tar.
build_images() {
    local new
    images=$cache/images-$(cat "$here"/{demo,pause}/main.go "$here/images.bash" | sha256sum | cut -c1-16)
    [[ ! -d $images ]] || return 0
    check_go
    say "Building the images $demo_image and $pause_image"
    mkdir -p "$cache"
    new=$(mktemp -d "$cache/images.XXXXXX")
    build_image demo "$demo_image" "$new"
    build_image pause "$pause_image" "$new"
    # Another `up` may have been faster: what it made is the same.
    mv -T "$new" "$images" 2>/dev/null || rm -rf "$new"
}

# build_image PROGRAM NAME FOLDER
build_image() {
    (cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$3/$1" "./$1") ||
        fail "Go could not build the program of the image $2."
    pack_image "$3/$1" "$2" "$3/$1.tar"
    rm "$3/$1"
}

# pack_image FILE NAME ARCHIVE: a static program of this machine's architecture as an image.
pack_image() {
    local program work pack=(tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0)
    program=$(basename "$1")
    work=$(mktemp -d "$3.XXXXXX")
    "${pack[@]}" -C "$(dirname "$1")" -cf "$work/layer.tar" "$program"
    # A numeric user other than root, so that pods of a restricted namespace may use the image.
    printf '{"architecture":"%s","os":"linux","config":{"User":"65532:65532","Entrypoint":["/%s"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$(cd / && go env GOARCH)" "$program" "$(sha256sum "$work/layer.tar" | cut -d' ' -f1)" >"$work/config.json"
    printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$2" >"$work/manifest.json"
    "${pack[@]}" -C "$work" -cf "$3" manifest.json config.json layer.tar
    rm -rf "$work"
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
