#!/bin/bash
# Puts the programs of the Kubernetes control plane into the cache where the sandbox looks for them:
# ${XDG_CACHE_HOME:-~/.cache}/erlmcp-deploy/envtest/1.20.2
#
#   build_control_plane.sh              build from Debian 12's source package (root for apt-get; about 5 minutes)
#   build_control_plane.sh DIRECTORY    unpack ready-made NAME.xz programs (also: ENVTEST_ARCHIVES=DIRECTORY)
#
# Does nothing when the programs are there already. etcd comes from Debian's etcd-server, on PATH.
set -euo pipefail

version=1.20.2
package_version=1.20.5+really1.20.2-1.1+deb12u1
programs=(kube-apiserver kube-controller-manager kube-scheduler kubemark)
target=${XDG_CACHE_HOME:-$HOME/.cache}/erlmcp-deploy/envtest/$version
archives=${1:-${ENVTEST_ARCHIVES:-}}

fail() {
    echo "build_control_plane.sh: $*" >&2
    exit 1
}

is_complete() {
    local program
    for program in "${programs[@]}"; do
        [ -x "$target/$program" ] || return 1
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "needs root for: $*"
    fi
}

# Programs are written beside their place and moved into it, so that a broken run leaves nothing half done.
install_programs() {
    local program
    mkdir -p "$target"
    for program in "${programs[@]}"; do
        chmod +x "$1/$program"
        mv "$1/$program" "$target/$program"
    done
}

unpack() {
    local program
    mkdir -p "$work/out"
    for program in "${programs[@]}"; do
        [ -f "$archives/$program.xz" ] || fail "$archives/$program.xz does not exist"
        xz --decompress --stdout "$archives/$program.xz" >"$work/out/$program"
    done
}

install_build_dependencies() {
    export DEBIAN_FRONTEND=noninteractive
    local packages=(golang-1.19-go golang-github-modern-go-reflect2-dev rsync make gcc dpkg-dev)
    if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
        as_root apt-get update
        as_root apt-get install -y --no-install-recommends "${packages[@]}"
    fi
}

# The package lists of source packages are kept apart: the machine's own apt configuration stays as it is.
download_source() {
    mkdir -p "$work/apt/parts" "$work/apt/lists/partial" "$work/source"
    local list name
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [ -f "$list" ] || continue
        name=$(basename "$list")
        sed -E 's/^deb /deb-src /; s/^Types:.*/Types: deb-src/' "$list" >"$work/apt/parts/$name"
    done
    local options=(
        -o "Dir::Etc::sourcelist=/dev/null"
        -o "Dir::Etc::sourceparts=$work/apt/parts"
        -o "Dir::State::lists=$work/apt/lists"
        -o "Dir::Cache=$work/apt"
        -o "APT::Sandbox::User="
    )
    apt-get "${options[@]}" update
    (cd "$work/source" && apt-get "${options[@]}" source --download-only "kubernetes=$package_version")
}

build() {
    install_build_dependencies
    download_source
    local home=$work/go/src/k8s.io
    mkdir -p "$home"
    tar --extract --gzip --file "$work"/source/kubernetes_*.orig.tar.gz --directory "$home"
    mv "$home/kubernetes-$version" "$home/kubernetes"
    cd "$home/kubernetes"
    # The bundled reflect2 crashes programs built with Go 1.18 or later at the first custom resource.
    rm -f vendor/github.com/modern-go/reflect2/*.{go,s}
    cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.{go,s} vendor/github.com/modern-go/reflect2/
    # The hollow kubelet listens on all addresses otherwise.
    sed -i 's/"0\.0\.0\.0" \/\* bind/"127.0.0.1" \/* bind/' pkg/kubemark/hollow_kubelet.go
    export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH=$work/go GOCACHE=$work/go-cache
    export GO111MODULE=off GOPROXY=off CGO_ENABLED=0 GOFLAGS=-p=2
    KUBE_GIT_VERSION=v$version KUBE_GIT_COMMIT=debian KUBE_GIT_TREE_STATE=clean \
        KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 make gen_openapi
    # The programs print the version of component-base, the API server answers /version with client-go's.
    local flags="-s -w" package
    for package in component-base/version client-go/pkg/version; do
        package=k8s.io/kubernetes/vendor/k8s.io/$package
        flags="$flags -X $package.gitVersion=v$version -X $package.gitMajor=1 -X $package.gitMinor=20"
        flags="$flags -X $package.gitCommit=debian -X $package.gitTreeState=clean"
    done
    mkdir -p "$work/out"
    go build -trimpath -ldflags "$flags" -o "$work/out/" "${programs[@]/#/./cmd/}"
}

if is_complete; then
    echo "already there: $target"
    exit 0
fi
mkdir -p "$(dirname "$target")"
work=$(mktemp -d "$(dirname "$target")/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
if [ -n "$archives" ]; then
    unpack
else
    build
fi
install_programs "$work/out"
command -v etcd >/dev/null || as_root apt-get install -y --no-install-recommends etcd-server
echo "ready: $target"
