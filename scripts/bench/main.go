// Command bench measures ztm beside the limit of the machine, in one run: three plain splice hops,
// the same with the outer two sealing, a direct connection, and frp and chisel where they are
// installed. Ratios are the result; absolute figures depend on the machine.
//
//	scripts/bench/run [-quick] [-rows throughput,latency,...] [-before BINARY] [-json FILE] [-table FILE] [-svg FILE]
//
//	paths (path.go, hops.go, sealed.go) -> rounds, the paths take turns (rows.go, far.go, memory.go) -> table.go -> JSON, chart.go
//
// Each figure is the median of the rounds, with the least and the most behind it and the ratio to
// plain hops.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"ztm/scripts/bench/load"
	"ztm/scripts/hop"
	"ztm/scripts/process"
)

// run is one run of the benchmark.
type run struct {
	process.Group
	self   string // this program
	ztm    string
	before string // another binary of ztm; empty: none
	server string // address of the load server
	quick  bool
	rounds int
	rows   []string // which groups; empty: all
	result []row
	errs   []error // failures of what is ours: the run goes on, and its exit status says so
}

func main() { os.Exit(process.Main("bench", command)) }

func command(ctx context.Context, args []string) error {
	if len(args) > 1 && slices.Contains([]string{"serve", "hop", "sealed-entrance", "sealed-exit"}, args[0]) {
		return beHop(ctx, args)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	r := &run{}
	flags.BoolVar(&r.quick, "quick", false, "a tenth of the bytes and of the time")
	flags.IntVar(&r.rounds, "rounds", 5, "how often each path is measured for a row")
	out := flags.String("json", "bench.json", "write the rows to `FILE`; empty: nowhere")
	chart := flags.String("svg", "", "draw the rows into `FILE`")
	table := flags.String("table", "", "write the rows to `FILE` as a table of Markdown")
	rows := flags.String("rows", "", "only these `GROUPS`: "+strings.Join(groupNames(), ", "))
	flags.StringVar(&r.ztm, "ztm", "", "the ztm `BINARY` to measure; empty: build it")
	flags.StringVar(&r.before, "before", "", "another `BINARY` of ztm to measure in turns with it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *rows != "" {
		r.rows = strings.Split(*rows, ",")
	}
	if err := r.measure(ctx); err != nil {
		return err
	}
	return errors.Join(append(r.errs, process.WriteJSON(*out, r.result), r.table(*table), r.draw(*chart))...)
}

// beHop is what this program is as one of the processes of a path: ROLE LISTEN [TARGET].
func beHop(ctx context.Context, args []string) error {
	ln, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	switch {
	case args[0] == "serve":
		return load.Serve(ln)
	case args[0] == "sealed-entrance":
		return hop.Serve(ln, args[2], hop.Seal, hop.Open)
	case args[0] == "sealed-exit":
		return hop.Serve(ln, args[2], hop.Open, hop.Seal)
	}
	return hop.Serve(ln, args[2], hop.Plain, hop.Plain)
}

func (r *run) measure(ctx context.Context) (err error) {
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if r.Dir, err = os.MkdirTemp("", "ztm-bench."); err != nil {
		return err
	}
	defer os.RemoveAll(r.Dir)
	defer r.End(8 * time.Second)
	if r.ztm, err = process.Ztm(ctx, r.ztm, r.Dir); err != nil {
		return err
	}
	r.server = process.FreeAddress()
	if _, err := r.Start("server", r.self, "serve", r.server); err != nil {
		return err
	}
	if err := process.Until(ctx, "the load server", 10*time.Second, listens(r.server)); err != nil {
		return err
	}
	paths, err := r.near(ctx)
	if err != nil {
		return err
	}
	return r.all(ctx, paths)
}

// near makes the paths of this machine, without any delay.
func (r *run) near(ctx context.Context) ([]*path, error) {
	hops, err := r.hopsPath(ctx, plainHops, false, line{})
	if err != nil {
		return nil, err
	}
	sealed, err := r.hopsPath(ctx, sealedHops, true, line{})
	if err != nil {
		return nil, err
	}
	ours, err := r.ztmPaths(ctx, ztm, line{}, false)
	if err != nil {
		return nil, err
	}
	paths := append([]*path{{name: "direct", address: r.server}, hops, sealed}, ours...)
	for _, other := range []func(context.Context) (*path, error){r.frpPath, r.chiselPath} {
		p, err := other(ctx)
		switch {
		case err != nil:
			fmt.Println("a peer does not start, and is left out:", err)
		case p != nil:
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// works waits until a path echoes.
func (r *run) works(ctx context.Context, p *path) error {
	return process.Until(ctx, p.name, 20*time.Second, func() error {
		_, err := load.FirstByte(ctx, p.address)
		return err
	})
}
