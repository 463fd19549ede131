#!/bin/sh
# Installs ztm, or a newer ztm over it, from a directory or a URL that has the files of a release: ztm-OS-ARCH and SHA256SUMS.
#
#   install.sh [--from DIR|URL] [--allow-http] [--bin DIR] [--target OS/ARCH] [--root DIR]
#   install.sh --uninstall [--bin DIR] [--root DIR]
#
# It finds out which binary this machine runs, checks its sum, puts it in its place in one step and makes the links ztm-agent and ztm-hub.
# Where it cannot be right it says so and changes nothing. It runs under every POSIX shell, busybox's too. --root installs into a
# system that is mounted there; if that is another machine's, --target says which. Nothing of it is run. Nothing is started:
# `ztm start agent` does that. Removing leaves the data.
#
# The sums come from where the binary comes from: they find damage, and TLS keeps others from changing both. So http:// needs
# --allow-http, for a server of your own.
set -eu

say() { printf '%s\n' "$*" >&2; }
fail() {
	say "install.sh: $*"
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

from='' bin='' target='' root='' uninstall='' http='' other=''
while [ $# -gt 0 ]; do
	case "$1" in
	--from | --bin | --target | --root)
		[ $# -ge 2 ] || fail "$1 needs a value"
		case "$1" in
		--from) from=$2 ;;
		--bin) bin=$2 ;;
		--target) target=$2 ;;
		--root) root=${2%/} ;;
		esac
		shift 2
		;;
	--uninstall) uninstall=1 && shift ;;
	--allow-http) http=1 && shift ;;
	-h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit 0 ;;
	*) fail "unknown option $1: see --help" ;;
	esac
done

termux() { case "${PREFIX-}" in *com.termux*) true ;; *) false ;; esac }
openwrt() { [ -r "$root/etc/openwrt_release" ]; }
# It is read and not run: below --root it is somebody else's.
openwrt_arch() { sed -n "s/^DISTRIB_ARCH=['\"]\{0,1\}\([A-Za-z0-9_.+-]*\).*/\1/p" "$root/etc/openwrt_release" | tail -n 1; }
# Another machine's program is not tried here.
if [ -n "$root" ] && { [ -n "$target" ] || openwrt; }; then other=1; fi

if [ -z "$bin" ]; then
	if termux; then
		bin=$PREFIX/bin
	elif openwrt; then
		bin=/usr/bin
	else
		bin=/usr/local/bin
	fi
fi
dir=$root$bin

# at_least VERSION MAJOR MINOR: is 5.10.0-23 at least 5.19?
at_least() {
	major=${1%%.*} rest=${1#*.}
	minor=${rest%%[!0-9]*}
	[ "$major" -gt "$2" ] || { [ "$major" -eq "$2" ] && [ "${minor:-0}" -ge "$3" ]; }
}

# byte N: the byte of that number of a program of this system
byte() { dd if="$root/bin/sh" bs=1 skip="$1" count=1 2>/dev/null; }

# little_endian: what `uname -m` calls mips says nothing about it; the head of a program does (ELF, EI_DATA)
little_endian() {
	case "$(byte 5)" in
	"$(printf '\001')") true ;;
	"$(printf '\002')") false ;;
	*) fail "cannot read /bin/sh to find out the byte order: name the target with --target" ;;
	esac
}

cpu() { grep -Eqw "$1" "$root/proc/cpuinfo" 2>/dev/null || grep -Eqw "$1" /proc/cpuinfo 2>/dev/null; }

# OpenWrt's names say more than the kernel does. ARM without "vfp" or "neon" in its name has no floating point unit that Go's ARMv7 could use.
openwrt_target() {
	case "$1" in
	x86_64) echo linux/amd64 ;;
	i386_pentium4) echo linux/386 ;;
	i386_*) fail "$1: this processor has no SSE2, which the 386 build needs" ;;
	aarch64_*) echo linux/arm64 ;;
	arm_arm1176jzf-s_vfp) echo linux/arm5 ;;
	arm_*vfp* | arm_*neon*) echo linux/armv7 ;;
	arm_*) echo linux/arm5 ;;
	armeb_*) fail "$1: Go has no big-endian ARM" ;;
	mips64el_*) echo linux/mips64le ;;
	mips64_*) echo linux/mips64 ;;
	mipsel_*) echo linux/mipsle ;;
	mips_*) echo linux/mips ;;
	riscv64_*) echo linux/riscv64 ;;
	loongarch64_*) echo linux/loong64 ;;
	*) fail "there is no build for OpenWrt's architecture $1" ;;
	esac
}

linux_target() {
	case "$1" in
	x86_64 | amd64) echo linux/amd64 ;;
	i?86)
		cpu sse2 || fail "this processor has no SSE2, which the 386 build needs"
		echo linux/386
		;;
	aarch64 | arm64) echo linux/arm64 ;;
	armv7* | armv8*) if cpu 'vfpv3|vfpv3d16|vfpv4|neon|asimd'; then echo linux/armv7; else echo linux/arm5; fi ;;
	armv5* | armv6*) echo linux/arm5 ;;
	mips64) if little_endian; then echo linux/mips64le; else echo linux/mips64; fi ;;
	mips) if little_endian; then echo linux/mipsle; else echo linux/mips; fi ;;
	riscv64) echo linux/riscv64 ;;
	loongarch64) echo linux/loong64 ;;
	*) fail "there is no build for this processor: $1" ;;
	esac
}

detect() {
	system=$(uname -s) machine=$(uname -m)
	if termux || [ -n "${ANDROID_ROOT-}" ]; then
		case "$machine" in
		aarch64) echo android/arm64 ;;
		arm*) echo linux/arm5 ;;
		*) fail "there is no build for Android on $machine" ;;
		esac
		return
	fi
	case "$system" in
	Linux)
		if openwrt; then
			name=$(openwrt_arch)
			if [ -z "$name" ] && [ -z "$root" ] && have opkg; then name=$(opkg print-architecture | awk '$2 != "all" && $2 != "noarch" { n = $2 } END { print n }'); fi
		fi
		if [ -n "${name-}" ]; then openwrt_target "$name"; else linux_target "$machine"; fi
		;;
	Darwin | FreeBSD)
		system=$(echo "$system" | tr '[:upper:]' '[:lower:]')
		case "$machine" in
		x86_64 | amd64) echo "$system/amd64" ;;
		arm64 | aarch64) echo "$system/arm64" ;;
		*) fail "there is no build for $system on $machine" ;;
		esac
		;;
	*) fail "there is no build for $system: on Windows unpack the zip archive" ;;
	esac
}

# kernels older than what Go's programs need end them in ways that nobody understands
check_kernel() {
	release=$(uname -r)
	case "$1" in
	linux/loong64)
		at_least "$release" 5 19 || fail "Linux $release on LoongArch is of the old world, whose system calls are others: ztm needs 5.19 or later (Kylin V11, UOS V25, Loongnix 26)"
		;;
	linux/mips64le) at_least "$release" 4 8 || fail "Linux $release is too old: this build needs 4.8 or later" ;;
	linux/*) at_least "$release" 3 2 || fail "Linux $release is too old: ztm needs 3.2 or later" ;;
	esac
}

# fetch NAME FILE
fetch() {
	case "$from" in
	https://* | http://*)
		if have curl; then
			curl -fsSL --proto "$protocols" --proto-redir "$protocols" --retry 2 -o "$2" "$from/$1"
		elif have wget; then
			wget -q -O "$2" "$from/$1"
		elif have uclient-fetch; then
			uclient-fetch -q -O "$2" "$from/$1"
		else
			fail "neither curl nor wget nor uclient-fetch is installed: fetch $from/$1 and SHA256SUMS elsewhere and use --from DIR"
		fi || fail "cannot fetch $from/$1"
		;;
	*)
		[ -r "$from/$1" ] || fail "$from has no $1"
		cp "$from/$1" "$2" || fail "cannot write $2: is there room for it?"
		;;
	esac
}

sum() {
	if have sha256sum; then
		sha256sum <"$1" | cut -d ' ' -f 1
	elif have shasum; then
		shasum -a 256 <"$1" | cut -d ' ' -f 1
	elif have sha256; then
		sha256 -q "$1"
	elif have openssl; then
		openssl dgst -sha256 -r <"$1" | cut -d ' ' -f 1
	else
		fail "nothing here can check a SHA-256 sum: install sha256sum or openssl"
	fi
}

# ours FILE: is it a link to ztm, or a copy where there are no links?
ours() {
	if [ -L "$1" ]; then
		case "$(readlink "$1")" in ztm | */ztm) true ;; *) false ;; esac
	else
		[ -f "$1" ] && cmp -s "$1" "$dir/ztm"
	fi
}

# state ROLE: that of its service, of the machine for root and of the user for others
own=''
[ "$(id -u)" = 0 ] || own=--user
state() { "$dir/ztm" status "$1" $own 2>/dev/null | awk '$1 == "State:" { print $2 }'; }

remove() {
	[ -e "$dir/ztm" ] || [ -L "$dir/ztm-agent" ] || fail "ztm is not installed in $dir"
	for role in agent hub; do
		# One that is stopped goes too. Where nothing keeps services there is no state.
		case "$([ -n "$root" ] || state "$role")" in
		running | stopped) "$dir/ztm" stop "$role" $own --uninstall || fail "stop the $role first" ;;
		esac
		if ours "$dir/ztm-$role"; then rm -f "$dir/ztm-$role"; fi
	done
	rm -f "$dir/ztm"
	say "ztm is removed from $dir. Its data is left where it is."
}

if [ -n "$uninstall" ]; then
	remove
	exit 0
fi

from=${from:-$(dirname "$0")}
from=${from%/}
protocols='=https'
case "$from" in
http://*)
	[ -n "$http" ] || fail "$from: anybody on the way can change what comes by http: use https, or --allow-http for a server of your own"
	protocols='=http,https'
	;;
esac
[ -n "$target" ] || target=$(detect)
[ -n "$other" ] || check_kernel "$target"
name=ztm-$(echo "$target" | tr / -)

mkdir -p "$dir" 2>/dev/null || fail "cannot write $dir: use sudo, or choose another directory with --bin"
# In the same directory: it is moved into its place in one step, and /tmp of a router is its memory.
new=$dir/.ztm.new sums=$dir/.ztm.sums
trap 'rm -f "$new" "$sums"' EXIT
trap 'exit 1' INT TERM HUP
: >"$new" 2>/dev/null || fail "cannot write $dir: use sudo, or choose another directory with --bin"

fetch SHA256SUMS "$sums"
want=$(awk -v name="$name" '$2 == name { print $1 }' "$sums")
[ -n "$want" ] || fail "SHA256SUMS of $from does not know $name"
if [ -f "$dir/ztm" ] && [ "$(sum "$dir/ztm")" = "$want" ]; then
	say "this ztm is installed already: $dir/ztm"
else
	fetch "$name" "$new"
	got=$(sum "$new")
	[ "$got" = "$want" ] || fail "$name is damaged or was changed: its sum is $got, SHA256SUMS says $want"
	chmod 755 "$new"
	# What cannot run here does not replace what can.
	if [ -z "$other" ] && ! said=$("$new" version 2>&1); then
		fail "$name does not run on this machine ($(uname -srm)): $said"
	fi
	# Copies of the old program, where the file system has no links, give way to copies of the new one.
	for role in agent hub; do
		if [ ! -L "$dir/ztm-$role" ] && ours "$dir/ztm-$role"; then rm -f "$dir/ztm-$role"; fi
	done
	mv -f "$new" "$dir/ztm"
	say "installed $target: $dir/ztm"
fi
if [ -n "$other" ]; then
	for role in agent hub; do
		[ -e "$dir/ztm-$role" ] || ln -s ztm "$dir/ztm-$role" || fail "cannot make the links in $dir"
	done
else
	"$dir/ztm" install-links "$dir" || fail "cannot make the links in $dir"
fi
case ":$PATH:" in *":$bin:"*) ;; *) [ -n "$root" ] || say "$bin is not in PATH" ;; esac
