#!/usr/bin/env bash
# Fetches a file of 1 GiB in three ways, in turns, where the lines of hub and endpoints are so fast and no faster:
#
#	scripts/bench/line.sh [RATE] [ROUNDS]        RATE is as tc has it, 1gbit unless said; 3 rounds
#
#	tunnel   curl -> agent -> hub -> agent -> a web server that reads the file
#	cp       ztm file cp
#	cloud    ztm cloud download, published before
#
# Needs root, curl, python3, and 4 GB in /dev/shm. Hub and endpoints are in network namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/../.."
rate=${1:-1gbit} rounds=${2:-3}
dir=$(mktemp -d /dev/shm/ztm-line.XXXX)
ztm=$dir/ztm
tag=zl$$ # of the namespaces
started=()

finish() {
	kill "${started[@]}" 2>/dev/null || true
	wait
	for place in h a b; do ip netns del $tag$place 2>/dev/null || true; done
	rm -rf "$dir"
}
trap finish EXIT

# at PLACE COMMAND... runs a command there.
at() {
	local place=$1
	shift
	ip netns exec $tag"$place" env HOME="$dir/$place" ZTM_DATA="$dir/$place" "$@"
}

# start PLACE COMMAND... lets it run until the end. Its output goes to a file.
start() {
	ip netns exec $tag"$1" env HOME="$dir/$1" ZTM_DATA="$dir/$1" "${@:2}" >"$dir/log" 2>&1 </dev/null &
	started+=($!)
}

# line PLACE NET lays a line from a place to the hub.
line() {
	ip link add wire netns $tag"$1" type veth peer name to"$1" netns ${tag}h
	ip -n $tag"$1" addr add 10.9."$2".2/24 dev wire
	ip -n ${tag}h addr add 10.9."$2".1/24 dev to"$1"
	ip -n $tag"$1" link set wire up
	ip -n ${tag}h link set to"$1" up
	ip netns exec $tag"$1" tc qdisc add dev wire root tbf rate "$rate" burst 256kb latency 30ms
	ip netns exec ${tag}h tc qdisc add dev to"$1" root tbf rate "$rate" burst 256kb latency 30ms
}

# once COMMAND... tries until the command succeeds, for ten seconds.
once() {
	for ((i = 0; i < 100; i++)); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.1
	done
	"$@"
}

# clock NAME COMMAND... prints how long a command takes, and what it brought has to be the file.
clock() {
	local from name=$1
	from=$(date +%s%N)
	at a "${@:2}" >/dev/null 2>&1
	printf '%s\t%d ms\n' "$name" $((($(date +%s%N) - from) / 1000000))
	cmp "$dir/a/got" "$dir/b/big"
}

CGO_ENABLED=0 go build -trimpath -o "$ztm" .
for place in h a b; do
	mkdir "$dir/$place"
	ip netns add $tag$place
	ip -n $tag$place link set lo up
done
line a 1
line b 2
start h "$ztm" run hub --listen 0.0.0.0:8888 --names 10.9.1.1:8888 10.9.2.1:8888 --permit "$dir/root.json"
once test -s "$dir/root.json"
for place in a b; do
	start $place "$ztm" run agent
	once at $place "$ztm" get mesh
	at $place "$ztm" join line --as $place --permit "$dir/root.json" >/dev/null
	at $place "$ztm" config direct off >/dev/null
	at $place "$ztm" cloud config --local-dir "$dir/$place/cloud" >/dev/null
done
head -c 1G /dev/urandom >"$dir/b/big"
at b "$ztm" cloud upload "$dir/b/big" >/dev/null 2>&1
start b python3 -m http.server --directory "$dir/b" 8000
at b "$ztm" tunnel open outbound tcp/web --targets 127.0.0.1:8000 >/dev/null
at a "$ztm" tunnel open inbound tcp/web --listen 9000 --exits b >/dev/null
once at a curl -sf -r 0-0 -o /dev/null http://127.0.0.1:9000/big
for ((n = 0; n < rounds; n++)); do
	rm -f "$dir/a/got"
	clock tunnel curl -sf -o "$dir/a/got" http://127.0.0.1:9000/big
	rm -f "$dir/a/got"
	clock cp "$ztm" file cp b:"$dir/b/big" "$dir/a/got"
	rm -f "$dir/a/got"
	ln -s "$dir/a/cloud/users/root/big" "$dir/a/got"
	clock cloud "$ztm" cloud download /users/root/big
	at a "$ztm" cloud erase /users/root/big --force >/dev/null
done
