//go:build linux

// Command direct shows which path two agents find behind which routers. Agents, a hub and routers
// with the NATs of nftables live in network namespaces: what is measured is the product. It needs
// root.
//
//	scripts/direct/run [-only WORDS] [-size MB] [-rounds N] [-ztm BINARY]
//
//	for each pair of routers
//	  world.go   namespaces, cables, rules
//	  mesh.go    a hub, two agents, a tunnel between them
//	  a flow begins -> the path that it finds, and when -> bytes over it, of which the hub gets none
//	  a flow of datagrams begins -> the same
//	  -> no socket listens at either agent
//
// It fails where a path is not the one that is expected.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
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
	strict   = router{name: "hub only", nat: "masquerade", in: "drop", more: `oifname @out tcp dport != 8888 drop`}
	noUDP    = router{name: "no UDP", nat: "masquerade", in: "drop", more: `meta l4proto udp drop`}
	none     = router{name: "no NAT", in: "accept", open: true}
	carrier  = router{name: "cone behind a carrier's NAT", nat: "masquerade", in: "drop", carrier: true}
	hairpin  = router{name: "cone that turns round", nat: "masquerade", in: "drop", hairpin: true}
)

// place is how the two devices lie to each other.
type place int

const (
	apart      place = iota // each behind a router of its own
	oneNetwork              // both in the network of a's router
	oneRouter               // in two networks of a's router, which do not see each other
)

// pair is two routers, and the path that is expected.
type pair struct {
	a, b router
	lie  place
	want string // the kind; "": relayed
	udp  string // the kind for datagrams; "": in the session
	far  bool   // from each other, and from the hub
}

var pairs = []pair{
	{cone, cone, oneNetwork, "LAN", "LAN", false},
	{strict, strict, oneNetwork, "LAN", "LAN", false},
	{none, none, apart, "punched", "punched", false},
	{cone, cone, apart, "punched", "punched", false},
	{cone, reset, apart, "punched", "punched", false},
	{reset, reset, apart, "punched", "", false},
	{noUDP, noUDP, apart, "punched", "", false},
	{carrier, cone, apart, "punched", "punched", false},
	{carrier, carrier, apart, "punched", "punched", false},
	{firewall, firewall, apart, "IPv6", "IPv6", false},
	{hairpin, hairpin, oneRouter, "punched", "", false}, // it turns round TCP alone
	{cone, cone, oneRouter, "", "", false},
	{none, random, apart, "", "punched", false}, // nothing listens: a dial from another port meets nobody
	{cone, random, apart, "", "", false},
	{random, random, apart, "", "", false},
	{cone, strict, apart, "", "punched", false},
	{none, none, apart, "punched", "punched", true},
	{cone, cone, apart, "punched", "punched", true},
}

func (p pair) String() string {
	switch {
	case p.lie == oneNetwork:
		return "one network behind " + p.a.name
	case p.lie == oneRouter:
		return "two networks behind one " + p.a.name
	case p.far:
		return p.a.name + " / " + p.b.name + ", far"
	}
	return p.a.name + " / " + p.b.name
}

// is reports whether words mean a pair: one with that name, or any whose name has them where none is called so.
func (p pair) is(words string) bool {
	named := slices.ContainsFunc(pairs, func(p pair) bool { return p.String() == words })
	return p.String() == words || !named && strings.Contains(p.String(), words)
}

// plain reports whether b can be connected to.
func (p pair) plain() bool { return p.lie == oneNetwork || p.lie == apart && p.b.open }

// connections is how many are opened for a median, and packets how many datagrams are sent, one after the other:
// each takes a round trip.
func (p pair) connections() int { return p.packets() / 10 }

func (p pair) packets() int {
	if p.far {
		return 300
	}
	return 2000
}

// address is that of b.
func (p pair) address() string {
	if p.lie == oneNetwork {
		return p.a.network(0) + ".3"
	}
	return p.b.network(1) + ".2"
}

// row is what came of a pair.
type row struct {
	path    string
	after   time.Duration // from the first flow to the path; 0: there was none
	rate    float64       // MB/s
	plain   float64       // the same, of that of two relays that only copy, between the same devices; 0: not measured
	sealed  float64       // of that of two that seal as well, with the least that it takes
	relayed time.Duration // to the first byte of a new connection, before there was a path: the median
	first   time.Duration // the same on the path
	bare    time.Duration // the same through the two relays; 0: not measured
	trip    time.Duration // from device to device and back
	hub     int64         // bytes that the hub got meanwhile
	cpu     time.Duration // of the hub meanwhile
	listen  int           // sockets that listen at both agents

	datagrams string  // their path
	came      float64 // how many of them came back, of one
	hubUDP    int64   // bytes that the hub got of them
}

func main() {
	binary := flag.String("ztm", "", "the program; it is built where none is named")
	size := flag.Int64("size", 64, "megabytes that are moved over each path, in each round")
	rounds := flag.Int("rounds", 1, "how often they are, in turns with plain and sealed relays where there can be those")
	only := flag.String("only", "", "the pair of this name, or pairs whose name has this")
	serve := flag.String("serve", "", "be the target of the tunnel, at an address")
	pull := flag.String("pull", "", "be its client: ADDRESS,BYTES")
	first := flag.String("first", "", "open connections one after the other, and print how long the first byte takes: ADDRESS,COUNT")
	nobody := flag.String("refused", "", "dial one time after the other where nobody listens, and print how long that takes: ADDRESS,COUNT")
	talk := flag.String("talk", "", "send datagrams through the tunnel and count what comes back: ADDRESS,COUNT")
	forward := flag.String("forward", "", "be a relay that only copies, or seals or opens as well: ADDRESS,TARGET,HOW")
	flag.Parse()
	err := error(nil)
	switch {
	case *serve != "":
		err = target(*serve)
	case *talk != "":
		err = speak(counted(*talk))
	case *first != "":
		address, n := counted(*first)
		err = medianOf(n, func() error { return firstByte(address) })
	case *nobody != "":
		address, n := counted(*nobody)
		err = medianOf(n, func() error { return refused(address) })
	case *forward != "":
		err = relay(*forward)
	case *pull != "":
		address, n := counted(*pull)
		err = client(address, int64(n))
	default:
		os.Exit(process.Main("direct", func(ctx context.Context, _ []string) error {
			return process.InScratch(ctx, "direct", *binary, func(dir, ztm string) error { return run(ctx, dir, ztm, *only, moves{*size << 20, *rounds}) })
		}))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "direct:", err)
		os.Exit(1)
	}
}

// counted parses ADDRESS,COUNT.
func counted(words string) (address string, n int) {
	address, count, _ := strings.Cut(words, ",")
	n, _ = strconv.Atoi(count) // this program writes it
	return address, n
}

func run(ctx context.Context, dir, ztm, only string, m moves) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "ROUTERS\tPATH\tAFTER\tMB/s\tOF PLAIN\tOF SEALED\tFIRST BYTE RELAYED\tFIRST BYTE\tROUND TRIP\tOF PLAIN\tBYTES AT THE HUB\tITS CPU\tLISTENING\tDATAGRAMS\tCAME BACK\tBYTES AT THE HUB")
	failed := 0
	for i, p := range pairs {
		if !p.is(only) || ctx.Err() != nil {
			continue
		}
		r, err := try(ctx, ztm, fmt.Sprintf("%s/%d", dir, i), strconv.Itoa(i), p, m)
		if err != nil {
			return fmt.Errorf("%v: %w", p, err)
		}
		verdict := ""
		if wrong := r.wrong(p, m); wrong != "" {
			verdict = "\tWRONG: " + wrong
			failed++
		}
		fmt.Fprintf(table, "%v\t%s\t%v\t%.0f\t%s\t%s\t%v\t%v\t%v\t%s\t%d\t%v\t%d\t%s\t%.2f\t%d%s\n",
			p, r.path, r.after.Round(time.Millisecond), r.rate, figure(r.plain), figure(r.sealed), r.relayed.Round(time.Microsecond), r.first.Round(time.Microsecond), r.trip.Round(time.Microsecond), figure(quotient(r.first, r.bare)), r.hub, r.cpu, r.listen, r.datagrams, r.came, r.hubUDP, verdict)
	}
	if failed > 0 {
		return fmt.Errorf("%d pairs found another path than they should", failed)
	}
	return ctx.Err()
}

// quotient is how a time is to another one; zero where that is missing.
func quotient(of, to time.Duration) float64 {
	if to == 0 {
		return 0
	}
	return float64(of) / float64(to)
}

// figure shows one that may be missing.
func figure(f float64) string {
	if f == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", f)
}

// wrong says what is not as it should be; "" if nothing is.
func (r row) wrong(p pair, m moves) string {
	moved, sentUDP := m.size*int64(m.rounds), int64(p.packets())*packetSize
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
	case p.far && p.want != "" && r.first > r.trip*5/4:
		return "the first byte takes more than a round trip"
	case r.listen > 0:
		return "a port is open"
	case p.udp != "" && !strings.HasPrefix(r.datagrams, "direct ("+p.udp+" ") || p.udp == "" && strings.HasPrefix(r.datagrams, "direct"):
		return "datagrams are not " + p.udp
	case p.udp != "" && r.hubUDP > sentUDP/8 || p.udp == "" && p.want == "" && r.hubUDP < sentUDP/2:
		return "the hub carried datagrams, or did not"
	case r.came < 0.5:
		return "datagrams were lost"
	}
	return ""
}
