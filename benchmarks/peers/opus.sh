#!/bin/sh
# Builds opus_analysis in a folder of its own from Debian's source of Opus, without root: sh opus.sh FOLDER. Needs apt, a C compiler, make.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/opus"
cd "$1"
# From where this machine has its packages.
apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | head -n 1 | {
    read -r mirror release
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
} >sources.list
set -- -qq -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$PWD/lists" -o Dir::Cache="$PWD/cache"
apt-get "$@" update
apt-get "$@" source --download-only opus
tar -xf opus_*.orig.tar.gz -C opus --strip-components 1
cd opus
./configure -q --disable-shared --disable-doc --disable-extra-programs CFLAGS="-O2" >/dev/null
make -s libopus.la
cc -O2 -I. -Iinclude -Icelt -Isilk -Isrc "$here/opus_analysis.c" .libs/libopus.a -lm -o ../opus_analysis
