//go:build linux

// Command direct shows which path two agents find behind which routers. Agents, a hub and routers
// with the NATs of nftables live in network namespaces: what is measured is the product. It needs
// root.
//
//	scripts/direct/run [-only WORDS] [-ztm BINARY]
//
//	for each pair of routers
//	  world.go   namespaces, cables, rules
//	  mesh.go    a hub, two agents, a tunnel between them
//	  a flow begins -> the path that it finds, and when -> 64 MB over it, of which the hub gets none
//	  -> no socket listens at either agent
//
// It fails where a path is not the one that is expected.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"ztm/scripts/process"
)

// Routers, as they are found in the world.
var (
	cone     = router{name: "cone", nat: "masquerade", in: "drop"}
	reset    = router{name: "cone, resets", nat: "masquerade", in: "reject with tcp reset"}
	random   = router{name: "random ports", nat: "masquerade random", in: "drop"}
	firewall = router{name: "IPv6 firewall", nat: "masquerade random", in: "drop", ipv6: true}
	strict   = router{name: "hub only", nat: "masquerade", in: "drop", more: `oifname "public" tcp dport != 8888 drop`}
)

// pair is two routers, and the path that is expected.
type pair struct {
	a, b       router
	neighbours bool
	want       string // the kind; "": relayed
}

var pairs = []pair{
	{cone, cone, true, "LAN"},
	{strict, strict, true, "LAN"},
	{cone, cone, false, "punched"},
	{cone, reset, false, "punched"},
	{reset, reset, false, "punched"},
	{firewall, firewall, false, "IPv6"},
	{cone, random, false, ""},
	{random, random, false, ""},
	{cone, strict, false, ""},
}

func (p pair) String() string {
	if p.neighbours {
		return "one network behind " + p.a.name
	}
	return p.a.name + " / " + p.b.name
}

// row is what came of a pair.
type row struct {
	path   string
	after  time.Duration // from the first flow to the path; 0: there was none
	rate   float64       // MB/s
	hub    int64         // bytes that the hub got while 64 MB moved
	listen int           // sockets that listen at both agents
}

// moved is how much is moved over each path, in bytes.
const moved = 64 << 20

func main() {
	binary := flag.String("ztm", "", "the program; it is built where none is named")
	only := flag.String("only", "", "pairs whose name has this")
	serve := flag.String("serve", "", "be the target of the tunnel, at an address")
	pull := flag.String("pull", "", "be its client: ADDRESS,BYTES")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	switch {
	case *serve != "":
		err = target(*serve)
	case *pull != "":
		address, size, _ := strings.Cut(*pull, ",")
		n, _ := strconv.ParseInt(size, 10, 64)
		err = client(address, n)
	default:
		err = run(ctx, *binary, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "direct:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, only string) error {
	dir, err := os.MkdirTemp("", "ztm-direct-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ztm, err := process.Ztm(ctx, binary, dir)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "ROUTERS\tPATH\tAFTER\tMB/s\tBYTES AT THE HUB\tLISTENING")
	failed := 0
	for i, p := range pairs {
		if !strings.Contains(p.String(), only) || ctx.Err() != nil {
			continue
		}
		r, err := try(ctx, ztm, fmt.Sprintf("%s/%d", dir, i), fmt.Sprintf("zd%d-%d", os.Getpid()%10000, i), p)
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
		verdict := ""
		if wrong := r.wrong(p); wrong != "" {
			verdict = "\tWRONG: " + wrong
			failed++
		}
		fmt.Fprintf(table, "%v\t%s\t%v\t%.0f\t%d\t%d%s\n", p, r.path, r.after.Round(time.Millisecond), r.rate, r.hub, r.listen, verdict)
	}
	if failed > 0 {
		return fmt.Errorf("%d pairs found another path than they should", failed)
	}
	return ctx.Err()
}

// wrong says what is not as it should be; "" if nothing is.
func (r row) wrong(p pair) string {
	direct := strings.HasPrefix(r.path, "direct ("+p.want+" ")
	switch {
	case p.want != "" && !direct:
		return "not " + p.want
	case p.want == "" && !strings.HasPrefix(r.path, "relayed"):
		return "not relayed"
	case p.want != "" && r.hub > moved/64:
		return "the hub carried it"
	case p.want == "" && r.hub < moved/2:
		return "the hub did not carry it"
	case r.listen > 0:
		return "a port is open"
	}
	return ""
}
