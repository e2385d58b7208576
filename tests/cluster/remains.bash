# shellcheck shell=bash
# Clearing away: what a cluster has on the machine, whether it runs, was killed, or lost its folder.

clear_processes() {
    # containerd would start nothing anew, but kubelet could, and shims end containers in their own time:
    # all at once is quickest, and nothing of it is to be kept.
    kill_all_processes
    remove_bridge
    remove_cgroups
}

clear_remains() {
    check_folder_is_ours
    clear_processes
    # Nothing is mounted below it (node.bash says why), but if ever: not over to another filesystem.
    rm -rf --one-file-system -- "$folder"
}
